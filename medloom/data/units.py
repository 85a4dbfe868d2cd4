"""The unit of values in files that do not state it: one for all, or one for each modality."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.spec import GREY, HU, RELATIVE
from medloom.data.images import states_unit

# What a volume's values can be.
STATED = {unit.casefold(): unit for unit in (HU, GREY, RELATIVE)}
# No value of a CT in HU is above this: there is air in every one.
AIR = -200.0


def read_units(text: str | None) -> dict[str | None, str]:
    """Modality -> unit from `HU` or `CT=HU,MR=relative`; None is the key of a unit for all modalities.

    Raises:
        UserError: neither of the two forms, a modality twice, or no unit of values.
    """
    units: dict[str | None, str] = {}
    for part in text.split(",") if text else ():
        modality, equals, unit = part.rpartition("=")
        key = modality.strip() if equals else None
        if key in units or key == "":
            raise UserError(f"--unit {text}: give one unit, or one for each modality, as in CT=HU,MR=relative.")
        units[key] = look_up(STATED, unit.strip().casefold(), f"--unit {text}: unit")
    return units


def written_units(units: Mapping[str | None, str]) -> str | None:
    """The text that `read_units` reads as these units; None for none."""
    parts = (unit if modality is None else f"{modality}={unit}" for modality, unit in units.items())
    return ",".join(parts) or None


def joined_units(*given: str | None) -> str | None:
    """Units of several sources as one; those of a later one for a modality come before an earlier one's for all.

    Raises:
        UserError: two units for one modality.
    """
    units: dict[str | None, str] = {}
    for text in given:
        for modality, unit in read_units(text).items():
            if units.setdefault(modality, unit) != unit:
                raise UserError(f"values of modality {modality} are said to be in {units[modality]} and in {unit}.")
    return written_units(units)


def unit_for(text: str | None, modality: str | None, path: Path) -> str | None:
    """The unit to read a file with: None where the file states its own, or nothing is said of its modality."""
    if text is None or states_unit(path):
        return None
    units = read_units(text)
    return units.get(modality, units.get(None))


def require_modalities(text: str | None, modalities: Iterable[str]) -> None:
    """Refuse units of modalities that there are not.

    Raises:
        UserError: names the closest modality.
    """
    known = dict.fromkeys(modalities)
    for modality in read_units(text):
        if modality is not None:
            look_up(known, modality, f"--unit {text}: modality")


def is_ct(modality: str | None) -> bool:
    """Whether a modality may be CT by its name; one without a name may."""
    return modality is None or "ct" in modality.casefold() or "tomogra" in modality.casefold() or modality == "image"
