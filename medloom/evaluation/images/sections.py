"""The sections of the report on a set of images, in its order. A section is one file and one row here."""

from collections.abc import Mapping, Sequence

from medloom.core.errors import UserError
from medloom.evaluation.images import (
    alignment,
    copies,
    fidelity,
    findings,
    identifiers,
    orientation,
    privacy,
    proofs,
    texts,
    utility,
    variety,
)
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.section import NEEDS, Section

SECTIONS: dict[str, Section] = {
    "fidelity": fidelity.SECTION,
    "orientation": orientation.SECTION,
    "alignment": alignment.SECTION,
    "findings": findings.SECTION,
    "texts": texts.SECTION,
    "copies": copies.SECTION,
    "privacy": privacy.SECTION,
    "utility": utility.SECTION,
    "identifiers": identifiers.SECTION,
}


# Metrics whose reference is 0, or a difference on either side of it: no ratio is taken to it.
SIGNED = (
    fidelity.EXCESS,
    fidelity.FD_INFINITY,
    fidelity.KERNEL,
    "squared_mmd",
    copies.EXCESS,
    copies.COPIED,
    copies.HELD_OUT,
    copies.IDENTICAL,
    variety.MISSING,
    proofs.DETECTED,
    orientation.MIRRORED,
    orientation.UPSIDE_DOWN,
    orientation.BACK_TO_FRONT,
    texts.COSINE,
    f"{texts.COSINE}{texts.SHUFFLED}",
)


def unmeasured_metrics(data: Comparison, chosen: Sequence[str], left_out: Mapping[str, str]) -> dict[str, str]:
    """Why metrics of sections that are not in the report were not measured.

    Args:
        data: the sets.
        chosen: names of the sections that were measured.
        left_out: those whose sets are too small, and what they lack.
    """
    found: dict[str, str] = {}
    for name, section in SECTIONS.items():
        unmet = [how for given, how in (NEEDS[need] for need in section.needs) if not given(data)]
        reason = left_out.get(name) or (f"it needs {unmet[0]}" if unmet else "the option --only leaves it out")
        if name not in chosen:
            found |= dict.fromkeys(section.metrics, reason)
    if "alignment" in chosen:
        found[alignment.BEYOND_CHANCE] = (
            "the classifier recognises the class of held-out real images no more often than by chance"
        )
    if "orientation" in chosen:
        found |= dict.fromkeys(orientation.SECTION.metrics, "no class of these images has sides that can be seen")
    if "findings" in chosen:
        found[findings.SIDE] = (
            "no finding is on the left side alone and on the right side alone in enough images of all sets"
        )
    if data.train is None:
        found |= dict.fromkeys((copies.COPIED, copies.EXCESS), f"it needs {NEEDS['training images'][1]}")
    return found


def choose_sections(only: Sequence[str], data: Comparison) -> tuple[list[str], dict[str, str]]:
    """The sections to measure: those asked for, else all whose needs are met by sets that are large enough.

    Args:
        only: names of SECTIONS; none for all.
        data: the sets.

    Returns:
        The names of the sections; and of each one whose sets are too small, its name with what it lacks.

    Raises:
        UserError: a section that was asked for has a need that is not met, or sets that are too small.
    """
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for name, section in SECTIONS.items():
        unmet = [how for given, how in (NEEDS[need] for need in section.needs) if not given(data)]
        if name not in only if only else unmet:
            continue
        if unmet:
            raise UserError(f"{name} needs {unmet[0]}.")
        reason = section.lacking(data)
        if reason and only:
            raise UserError(f"{name} cannot be measured: {reason}.")
        if reason:
            left_out[name] = reason
        else:
            chosen.append(name)
    return chosen, left_out
