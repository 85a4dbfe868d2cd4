"""What changing a column of the condition does to the images, compared with the truth if a causal model knows it.

The images of `medloom whatif` are read patient by patient: an arm less the factual image, mean over seeds. With the
cohort that the rows are from, the true difference of the same change is rendered and compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.core.plots import sides_of
from medloom.core.progress import progress
from medloom.core.spec import HU
from medloom.core.tiles import AbsoluteQuantile
from medloom.data.images import read_image, states_unit
from medloom.data.tables import read_table
from medloom.evaluation.effects.regions import Cells, Regions
from medloom.metrics.effects import affected_region, map_correlation, off_target
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
# A change whose largest true difference is below this, in HU, counts as none.
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
    """What one arm changes in one patient.

    Attributes:
        arm: name of the arm.
        attribute: see MeasuredArm.
        source: the patient.
        dose: arm and factual value.
        estimated: mean difference in the measured region.
        spread: its standard deviation over seeds; nan for one seed.
        true: the true mean difference there; None without a truth.
        changed: whether anything truly changes.
        correlation: of the difference map with the true one; nan if nothing changes.
        outside: mean absolute difference where nothing changes.
        inside: mean absolute difference where something does.
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


@dataclass(frozen=True, eq=False)
class EffectExample:
    """Maps of one patient and arm, for a picture; `true` is None without a truth.

    `number` counts the patients, `modality` is empty where none is stated, and `sides` are the patient's sides at the
    left and right edge, or None where they are not known.
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


@dataclass
class Effects:
    """What was measured.

    Attributes:
        unit: of the images.
        seeds: images per patient and arm.
        arms: by name.
        regions: shifts inside the classes of the held masks.
        rows: one per patient and arm.
        examples: for pictures.
        sizes: (arm, "true" or "generated") -> absolute differences of all patients, which set the colours of pictures.
        sides: of the images that were read last; see `EffectExample`.
    """

    unit: str
    seeds: int
    arms: dict[str, MeasuredArm]
    regions: Regions
    rows: list[Effect] = field(default_factory=list)
    examples: list[EffectExample] = field(default_factory=list)
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
    """Read the images of a what-if and measure every arm of every patient.

    Args:
        manifest: manifest.csv of `medloom whatif`.
        truth: the cohort of the patients, or None.
        verbose: whether to show progress.

    Raises:
        UserError: not a folder of `medloom whatif`, a missing image, or the truth of another cohort.
    """
    folder = manifest.parent
    if not (folder / DESCRIPTION).is_file():
        raise UserError(f"{folder} holds no {DESCRIPTION}; give the manifest.csv that `medloom whatif` wrote.")
    description = read_json(folder / DESCRIPTION)
    described = {name: MeasuredArm(name, own["changes"], own["estimand"]) for name, own in description["arms"].items()}
    # Source -> arm -> its rows.
    sources: dict[str, dict[str, list[Cells]]] = {}
    table = read_table(manifest)
    for cells in table.rows:
        row = dict(zip(table.header, cells, strict=True))
        sources.setdefault(str(row["source_id"]), {}).setdefault(str(row["arm"]), []).append(row)
    for source, by_arm in sources.items():
        for name in (FACTUAL, *described):
            if name not in by_arm:
                raise UserError(f"{manifest}: source {source} has no image of the arm {name!r}; run the what-if again.")
            by_arm[name].sort(key=lambda row: int(str(row["seed"])))
    first = next(iter(sources.values()))
    # In the order in which they were asked for.
    arms = {name: described[name] for name in first if name != FACTUAL}
    regions = Regions.of(folder, description)
    if truth is not None:
        regions = replace(regions, names={label: name for name, label in CONDITION_LABELS.items()})
    effects = Effects("", len(first[FACTUAL]), arms, regions)
    with progress("measuring effects", len(sources), "patients", 0, verbose) as advance:
        for source, by_arm in sources.items():
            _measure_patient(folder, source, by_arm, truth, effects)
            advance()
    return effects


def _measure_patient(
    folder: Path, source: str, by_arm: Mapping[str, Sequence[Cells]], truth: Cohort | None, effects: Effects
) -> None:
    """Add a row and an example for each arm."""
    factual = _stack(folder, by_arm[FACTUAL], effects)
    cells = by_arm[FACTUAL][0]
    images = {name: _stack(folder, by_arm[name], effects) for name in effects.arms}
    effects.regions.add(source, cells, factual, images)
    for name, arm in effects.arms.items():
        differences = images[name] - factual
        mean = differences.mean(axis=0)
        dose = f"{name} | " + ", ".join(f"{column}={_rounded(cells.get(column))}" for column in arm.changes)
        row = Effect(name, arm.attribute, source, dose, 0.0, 0.0)
        region, true = np.ones(mean.shape, dtype=bool), None
        if truth is not None:
            held = [column for column in str(by_arm[name][0].get("held") or "").split(",") if column]
            twins = truth.twins(source, arm.changes, held)
            true, unit = twins.difference, twins.factual.unit
            if unit != effects.unit:
                raise UserError(f"images in {effects.unit} and a cohort in {unit}: these are not its images.")
            if true.shape != mean.shape:
                raise UserError(
                    f"images of {mean.shape} pixels and a cohort of {true.shape}: generate at the cohort's size."
                )
            labels = [LABELS[known] for known in MEASURED.get(arm.attribute, tuple(LABELS)[1:])]
            region = np.isin(twins.factual.labels, labels)
            row = replace(row, true=float(true[region].mean()), changed=bool(np.abs(true).max() > NO_EFFECT))
            if row.changed:
                body = twins.factual.labels > 0
                outside, inside = off_target(mean, affected_region(true), body)
                row = replace(row, correlation=map_correlation(true, mean, body), outside=outside, inside=inside)
        values = differences[:, region].mean(axis=1)
        spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        effects.rows.append(replace(row, estimated=float(values.mean()), spread=spread))
        for kind, found in (("generated", mean), ("true", true)):
            if found is not None:
                effects.sizes.setdefault((name, kind), AbsoluteQuantile()).add(found)
        number = len({known.source for known in effects.rows})
        drawn = factual.mean(axis=0), images[name].mean(axis=0), mean, true, row.changed
        example = EffectExample(name, *drawn, number, str(cells.get("modality") or ""), effects.sides)
        own = [place for place, known in enumerate(effects.examples) if known.arm == name]
        unchanged = [place for place in own if not effects.examples[place].changed]
        if len(own) < EXAMPLES:
            effects.examples.append(example)
        elif example.changed and unchanged:
            # An example in which nothing changes gives way to one in which something does.
            effects.examples[unchanged[0]] = example


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
