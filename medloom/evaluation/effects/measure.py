"""What changing a column of the condition does to the images, compared with the truth if a causal model knows it.

The images of `medloom whatif` are read row by row: an arm less the factual image, mean over seeds. With the cohort that
the rows are from, the true difference of the same change is rendered and compared. The unit of all metrics is the
patient, who may have several rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import MISSING, spelled
from medloom.core.errors import UserError
from medloom.core.files import explained_content, read_mapping
from medloom.core.lookup import look_up
from medloom.core.plots import sides_of
from medloom.core.progress import progress
from medloom.core.spec import HU
from medloom.core.tiles import AbsoluteQuantile
from medloom.data.images import read_image, states_unit
from medloom.data.tables import read_table
from medloom.evaluation.effects.regions import Cells, Regions
from medloom.evaluation.effects.support import is_beyond
from medloom.evaluation.report.estimates import unit_of
from medloom.metrics.effects import map_correlation, off_target
from medloom.phantom.cohort_spec import CONDITION_LABELS
from medloom.phantom.thorax import LABELS
from medloom.phantom.truth import Cohort

DESCRIPTION = "whatif.json"
FACTUAL = "factual"
LUNGS = ("left lung", "right lung")
WITHIN = ("thoracic cavity", *LUNGS, "airway", "heart", "lesion")
# Where the effect of a cause is measured, in labels of the cohort; of all others in the whole body.
MEASURED: Mapping[str, tuple[str, ...]] = {
    "smoking": LUNGS,
    "pack_years": LUNGS,
    "coffee": LUNGS,
    "age": ("bone",),
    "diagnosis": WITHIN,
    "extent": WITHIN,
    "side": WITHIN,
}
# A true difference up to this, in HU, counts as none.
NO_EFFECT = 0.5
EXAMPLES = 4
DOSE_STEP = 20

Map = NDArray[np.float32]


@dataclass(frozen=True)
class MeasuredArm:
    """One change.

    Attributes:
        name: as the user wrote it, e.g. "smoking=never".
        changes: column to value.
        estimand: in words.
    """

    name: str
    changes: Mapping[str, float | str]
    estimand: str

    @property
    def attribute(self) -> str:
        """The first changed column, which names the effect."""
        return self.name.partition("=")[0]


@dataclass(frozen=True, eq=False)
class Effect:
    """What one arm changes in one row.

    Attributes:
        arm: name of the arm.
        attribute: see MeasuredArm.
        source: the row.
        dose: arm and factual value.
        estimated: mean difference in the measured region.
        spread: its standard deviation over seeds; nan for one seed.
        true: the true mean difference there; None without a truth.
        changed: whether anything truly changes.
        correlation: of the difference map with the true one; nan if nothing changes.
        outside: mean absolute difference where nothing changes.
        inside: mean absolute difference where something does.
        patient: see `unit_of`; empty for a row that is its own unit.
        support: how many training patients are near the changed row; None if that is unknown or nothing changes.
        asked: whether the arm is a change in the row, which may have its value already.
    """

    arm: str
    attribute: str
    source: str
    dose: str
    estimated: float
    spread: float
    true: float | None = None
    changed: bool = True
    correlation: float = float("nan")
    outside: float = float("nan")
    inside: float = float("nan")
    patient: str = ""
    support: int | None = None
    asked: bool = True

    @property
    def unit(self) -> str:
        """What the row counts for."""
        return self.patient or self.source


@dataclass(frozen=True, eq=False)
class EffectExample:
    """Maps of one row and arm, for a picture; `true` is None without a truth.

    `number` counts the rows of the what-if, `modality` is empty where none is stated, `sides` are the patient's sides
    at the left and right edge, or None where they are not known, and `beyond` says whether it is an extrapolation.
    """

    arm: str
    factual: Map
    other: Map
    difference: Map
    true: Map | None
    changed: bool
    number: int = 1
    modality: str = ""
    sides: tuple[str, str] | None = None
    beyond: bool = False


@dataclass
class Effects:
    """What was measured.

    Attributes:
        unit: of the images.
        seeds: images per row and arm.
        arms: by name.
        regions: shifts inside the classes of the held masks.
        rows: one per row and arm.
        examples: for pictures.
        support_known: whether the what-if says how many training patients are near its rows.
        sizes: (arm, "true" or "generated") -> absolute differences of all rows, which set the colours of pictures.
        sides: of the images that were read last; see `EffectExample`.
    """

    unit: str
    seeds: int
    arms: dict[str, MeasuredArm]
    regions: Regions
    rows: list[Effect] = field(default_factory=list)
    examples: list[EffectExample] = field(default_factory=list)
    support_known: bool = True
    sizes: dict[tuple[str, str], AbsoluteQuantile] = field(default_factory=dict)
    sides: tuple[str, str] | None = None

    def column(self, name: str, attribute: str) -> NDArray[Any]:
        """A field of all rows of one attribute."""
        return np.array([getattr(row, name) for row in self.rows if row.attribute == attribute])

    @property
    def attributes(self) -> list[str]:
        """In the order of the arms."""
        return list(dict.fromkeys(arm.attribute for arm in self.arms.values()))

    @property
    def known(self) -> bool:
        """Whether the truth is known."""
        return any(row.true is not None for row in self.rows)


def measure_effects(manifest: Path, truth: Cohort | None, verbose: bool = True) -> Effects:
    """Read the images of a what-if and measure every arm of every row.

    Args:
        manifest: manifest.csv of `medloom whatif`.
        truth: the cohort of the rows, or None.
        verbose: whether to show progress.

    Raises:
        UserError: not a folder of `medloom whatif`, a missing image, or the truth of another cohort.
    """
    folder = manifest.parent
    if not (folder / DESCRIPTION).is_file():
        raise UserError(f"{folder} holds no {DESCRIPTION}; give the manifest.csv that `medloom whatif` wrote.")
    with explained_content(folder / DESCRIPTION):
        description = read_mapping(folder / DESCRIPTION)
        stated = description["arms"]
        described = {name: MeasuredArm(name, own["changes"], own["estimand"]) for name, own in stated.items()}
        left_out = {name: set(own.get("left_out", ())) for name, own in stated.items()}
    # Source -> arm -> its rows.
    sources: dict[str, dict[str, list[Cells]]] = {}
    table = read_table(manifest)
    for cells in table.rows:
        row = dict(zip(table.header, cells, strict=True))
        sources.setdefault(str(row["source_id"]), {}).setdefault(str(row["arm"]), []).append(row)
    # Rows that break a bound of the template in an arm have no image there.
    for source, by_arm in sources.items():
        for name in (FACTUAL, *described):
            if name not in by_arm and source not in left_out.get(name, ()):
                raise UserError(f"{manifest}: source {source} has no image of the arm {name!r}; run the what-if again.")
        for own_rows in by_arm.values():
            own_rows.sort(key=lambda row: int(str(row["seed"])))
    first = next(iter(sources.values()))
    # In the order in which they were asked for: that of a row which no arm leaves out, if there is one.
    longest_first = sorted(sources.values(), key=lambda by_arm: -len(by_arm))
    names = dict.fromkeys(name for by_arm in longest_first for name in by_arm if name != FACTUAL)
    arms = {name: look_up(described, name, f"{manifest}: arm") for name in names}
    regions = Regions.of(folder, description)
    if truth is not None:
        regions = replace(regions, names={label: name for name, label in CONDITION_LABELS.items()})
    known = all("extrapolated_rows" in own for own in stated.values())
    effects = Effects("", len(first[FACTUAL]), arms, regions, support_known=known)
    with progress("measuring effects", len(sources), "rows", 0, verbose) as advance:
        for number, (source, by_arm) in enumerate(sources.items(), 1):
            _measure_row(folder, source, number, by_arm, truth, effects)
            advance()
    return effects


def by_patient(rows: Sequence[Effect]) -> list[Effect]:
    """Rows with the same patient, arm and dose as one, which is their mean: a patient counts once."""
    groups: dict[tuple[object, ...], list[Effect]] = {}
    for row in rows:
        known = row.support is not None, is_beyond(row)
        groups.setdefault((row.arm, row.unit, row.dose, row.changed, row.asked, known), []).append(row)

    def mean(own: Sequence[Effect], name: str) -> float:
        return float(np.mean([getattr(row, name) for row in own]))

    return [
        replace(
            own[0],
            true=None if own[0].true is None else mean(own, "true"),
            estimated=mean(own, "estimated"),
            spread=mean(own, "spread"),
            correlation=mean(own, "correlation"),
            outside=mean(own, "outside"),
            inside=mean(own, "inside"),
        )
        for own in groups.values()
    ]


def _measure_row(
    folder: Path,
    source: str,
    number: int,
    by_arm: Mapping[str, Sequence[Cells]],
    truth: Cohort | None,
    effects: Effects,
) -> None:
    """Add a row and an example for each arm."""
    factual = _stack(folder, by_arm[FACTUAL], effects)
    cells = by_arm[FACTUAL][0]
    arms = {name: arm for name, arm in effects.arms.items() if name in by_arm}
    images = {name: _stack(folder, by_arm[name], effects) for name in arms}
    support = {name: _support(by_arm[name][0]) for name in arms}
    unit = unit_of(cells)
    asked = {name: _is_change(cells, arm.changes) for name, arm in arms.items()}
    effects.regions.add(
        source, unit, cells, factual, {name: own for name, own in images.items() if asked[name]}, support
    )
    for name, arm in arms.items():
        differences = images[name] - factual
        mean = differences.mean(axis=0)
        dose = f"{name} | " + ", ".join(f"{column}={_rounded(cells.get(column))}" for column in arm.changes)
        row = Effect(
            name, arm.attribute, source, dose, 0.0, 0.0, patient=unit, support=support[name], asked=asked[name]
        )
        region, true = np.ones(mean.shape, dtype=bool), None
        if truth is not None:
            held = [column for column in str(by_arm[name][0].get("held") or "").split(",") if column]
            twins = truth.twins(source, arm.changes, held)
            true = twins.difference
            if twins.factual.unit != effects.unit:
                raise UserError(
                    f"images in {effects.unit} and a cohort in {twins.factual.unit}: these are not its images."
                )
            if true.shape != mean.shape:
                raise UserError(
                    f"images of {mean.shape} pixels and a cohort of {true.shape}: train a model at the cohort's size."
                )
            labels = [LABELS[known] for known in MEASURED.get(arm.attribute, tuple(LABELS)[1:])]
            region = np.isin(twins.factual.labels, labels)
            row = replace(row, true=float(true[region].mean()), changed=bool(np.abs(true).max() > NO_EFFECT))
            if row.changed:
                body = twins.factual.labels > 0
                outside, inside = off_target(mean, true, body, NO_EFFECT)
                row = replace(row, correlation=map_correlation(true, mean, body), outside=outside, inside=inside)
        values = differences[:, region].mean(axis=1)
        spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        effects.rows.append(replace(row, estimated=float(values.mean()), spread=spread))
        for kind, found in (("generated", mean), ("true", true)):
            if found is not None:
                effects.sizes.setdefault((name, kind), AbsoluteQuantile()).add(found)
        drawn = factual.mean(axis=0), images[name].mean(axis=0), mean, true, row.changed
        example = EffectExample(name, *drawn, number, str(cells.get("modality") or ""), effects.sides, is_beyond(row))
        own = [place for place, known in enumerate(effects.examples) if known.arm == name]
        unchanged = [place for place in own if not effects.examples[place].changed]
        if len(own) < EXAMPLES:
            effects.examples.append(example)
        elif example.changed and unchanged:
            # An example in which nothing changes gives way to one in which something does.
            effects.examples[unchanged[0]] = example


def _is_change(factual: Cells, changes: Mapping[str, object]) -> bool:
    """Whether an arm sets any column of a row to another value than it has; a column that is not there may change."""
    return any(name not in factual or spelled(factual[name]) != spelled(value) for name, value in changes.items())


def _support(cells: Cells) -> int | None:
    """How many training patients are near a row, by its manifest.

    Raises:
        UserError: not a number of patients.
    """
    text = spelled(cells.get("support"))
    if text.casefold() in MISSING:
        return None
    if not text.isdecimal():
        raise UserError(f"column 'support': {text!r} is not a number of patients; run the what-if again.")
    return int(text)


def _stack(folder: Path, rows: Sequence[Cells], effects: Effects) -> Map:
    """Images of one arm, `(seeds, *spatial)`; in HU if the model generates HU and the files cannot say so."""
    spec, images = effects.regions.spec, []
    for row in rows:
        path = folder / str(row["path"])
        made = spec.intensity.get(str(row.get("modality"))) if spec is not None else None
        in_hu = made is not None and made.unit == HU and not states_unit(path)
        images.append(read_image(path, unit=HU if in_hu else None))
    effects.unit, effects.sides = images[0].unit, sides_of(images[0])
    return np.stack([image.pixels[0] for image in images])


def _rounded(value: object) -> str:
    """A number as a multiple of 20, since no two patients have the same one; anything else unchanged."""
    try:
        return f"{DOSE_STEP * round(float(str(value)) / DOSE_STEP)}"
    except ValueError:
        return str(value)
