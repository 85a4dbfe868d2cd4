"""What changing a column of the condition does to the images, beside the truth where a causal model knows it.

What `medloom whatif` makes is read patient by patient: the difference of an arm and the factual image, mean over seeds.
With the cohort that the rows came from, the true difference of the same change is rendered, and both are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.core.image import Image
from medloom.core.progress import progress
from medloom.core.spec import HU, ImageSpec
from medloom.data.images import read_image, states_unit
from medloom.data.tables import read_table
from medloom.evaluation.effects.regions import Regions
from medloom.metrics.effects import affected_region, map_correlation, off_target
from medloom.phantom.cohort_spec import CONDITION_LABELS
from medloom.phantom.thorax import LABELS
from medloom.phantom.truth import Cohort

DESCRIPTION = "whatif.json"
FACTUAL = "factual"
LUNGS = ("left lung", "right lung")
WITHIN = ("thoracic cavity", *LUNGS, "airway", "heart", "lesion")
# Where the effect of a cause is measured, in labels of the cohort; of the others in the whole body.
MEASURED: Mapping[str, tuple[str, ...]] = {
    "smoking": LUNGS,
    "pack_years": LUNGS,
    "coffee": LUNGS,
    "age": ("bone",),
    "diagnosis": WITHIN,
    "extent": WITHIN,
    "side": WITHIN,
}
# Below this largest true difference, in HU, a change counts as none.
NO_EFFECT = 0.5
EXAMPLES = 4

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Arm:
    """One change.

    Attributes:
        name: as the user wrote it, e.g. "smoking=never".
        changes: column to value.
        estimand: in words.
    """

    name: str
    changes: Mapping[str, Any]
    estimand: str

    @property
    def attribute(self) -> str:
        """The first changed column, which names the effect."""
        return self.name.partition("=")[0]


@dataclass(frozen=True, eq=False)
class Example:
    """Maps of one patient and arm, for a picture; without a truth `true` is None, and everything counts as changed."""

    source: str
    arm: str
    factual: Map
    other: Map
    difference: Map
    true: Map | None
    changed: bool


@dataclass
class Effects:
    """What was measured, a row for each patient and arm.

    Attributes:
        unit: of the images.
        seeds: images of each patient and arm.
        arms: by name.
        rows: arm, attribute, source (the patient), dose (arm and factual value), estimated (mean difference in the
            measured region), spread (its deviation over seeds, nan for one seed); with a truth also true, changed,
            correlation, outside and inside.
        examples: for pictures.
        regions: shifts inside the classes of the masks that were held.
    """

    unit: str
    seeds: int
    arms: dict[str, Arm]
    regions: Regions
    rows: list[dict[str, Any]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    def column(self, name: str, attribute: str) -> NDArray[Any]:
        """The values of one attribute's rows."""
        return np.array([row[name] for row in self.rows if row["attribute"] == attribute])

    @property
    def attributes(self) -> list[str]:
        """In the order of the arms."""
        return list(dict.fromkeys(arm.attribute for arm in self.arms.values()))


def measure_effects(manifest: Path, truth: Cohort | None, shown: bool = True) -> Effects:
    """Read the images of a what-if and measure every arm of every patient.

    Args:
        manifest: manifest.csv of `medloom whatif`.
        truth: the cohort that the patients are of, or None.
        shown: whether to show progress.

    Raises:
        UserError: not a folder of `medloom whatif`, an image is missing, or the truth is of another cohort.
    """
    described = read_arms(manifest.parent)
    sources = _sources(manifest, described)
    # In the order in which they were asked for.
    arms = {name: described[name] for name in next(iter(sources.values())) if name != FACTUAL}
    seeds = len(next(iter(sources.values()))[FACTUAL])
    regions = Regions.of(manifest.parent, read_json(manifest.parent / DESCRIPTION))
    if truth is not None:
        regions = replace(regions, names={label: name for name, label in CONDITION_LABELS.items()})
    effects = Effects("", seeds, arms, regions)
    with progress("measuring effects", len(sources), "patients", 0, shown) as advance:
        for source, images in sources.items():
            for row, example in _of_patient(manifest.parent, source, images, arms, truth, effects):
                effects.rows.append(row)
                _show(effects.examples, example)
            advance()
    return effects


def _show(examples: list[Example], example: Example) -> None:
    """Keep the first examples of an arm, those in which nothing truly changes only until there are others."""
    own = [index for index, known in enumerate(examples) if known.arm == example.arm]
    same = [index for index in own if not examples[index].changed]
    if len(own) < EXAMPLES:
        examples.append(example)
    elif example.changed and same:
        examples[same[0]] = example


def read_arms(folder: Path) -> dict[str, Arm]:
    """The arms of a what-if.

    Raises:
        UserError: the folder holds none.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder} holds no {DESCRIPTION}; --whatif takes the manifest.csv that `medloom whatif` wrote."
        )
    return {name: Arm(name, entry["changes"], entry["estimand"]) for name, entry in read_json(path)["arms"].items()}


def _sources(manifest: Path, arms: Mapping[str, Arm]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """source -> arm -> its rows in the order of their seeds."""
    table = read_table(manifest)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for cells in table.rows:
        row = dict(zip(table.header, cells, strict=True))
        found.setdefault(str(row["source_id"]), {}).setdefault(str(row["arm"]), []).append(row)
    for source, rows in found.items():
        for arm in (FACTUAL, *arms):
            if arm not in rows:
                raise UserError(f"{manifest}: source {source} has no image of the arm {arm!r}; run the what-if again.")
            rows[arm].sort(key=lambda row: int(row["seed"]))
    return found


def _of_patient(
    folder: Path,
    source: str,
    images: Mapping[str, Sequence[Mapping[str, Any]]],
    arms: Mapping[str, Arm],
    truth: Cohort | None,
    effects: Effects,
) -> Iterator[tuple[dict[str, Any], Example]]:
    factual = _stack(folder, images[FACTUAL], effects)
    told = images[FACTUAL][0]
    changed_images = {name: _stack(folder, images[name], effects) for name in arms}
    effects.regions.add(source, told, factual, changed_images)
    for name, arm in arms.items():
        other = changed_images[name]
        differences = other - factual
        mean = differences.mean(axis=0)
        row: dict[str, Any] = {"arm": name, "attribute": arm.attribute, "source": source, "dose": _dose(arm, told)}
        if truth is None:
            region, true = np.ones(mean.shape, dtype=bool), None
        else:
            held = [column for column in str(images[name][0].get("held") or "").split(",") if column]
            region, true = _beside_truth(row, mean, arm, held, truth, effects)
        values = differences[:, region].mean(axis=1)
        row["estimated"] = float(values.mean())
        row["spread"] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        changed = row.get("changed", True)
        yield row, Example(source, name, factual.mean(axis=0), other.mean(axis=0), mean, true, changed)


def _beside_truth(
    row: dict[str, Any], mean: Map, arm: Arm, held: Sequence[str], truth: Cohort, effects: Effects
) -> tuple[NDArray[np.bool_], Map]:
    """Add to `row` what the truth says; returns the measured region and the true difference."""
    twins = truth.twins(row["source"], arm.changes, held)
    true = twins.difference
    if twins.factual.unit != effects.unit:
        raise UserError(f"images in {effects.unit} and a cohort in {twins.factual.unit}: these are not its images.")
    if true.shape != mean.shape:
        raise UserError(f"images of {mean.shape} pixels and a cohort of {true.shape}: generate at the cohort's size.")
    labels = [LABELS[name] for name in MEASURED.get(arm.attribute, tuple(LABELS)[1:])]
    region = np.isin(twins.factual.labels, labels)
    body = twins.factual.labels > 0
    row["true"] = float(true[region].mean())
    row["changed"] = bool(np.abs(true).max() > NO_EFFECT)
    if row["changed"]:
        outside, inside = off_target(mean, affected_region(true), body)
        row |= {"correlation": map_correlation(true, mean, body), "outside": outside, "inside": inside}
    else:
        row |= {"correlation": float("nan"), "outside": float("nan"), "inside": float("nan")}
    return region, true


def _stack(folder: Path, rows: Sequence[Mapping[str, Any]], effects: Effects) -> Map:
    """Images of one arm, `(seeds, *spatial)`."""
    images = [_image(folder / str(row["path"]), row, effects.regions.spec) for row in rows]
    effects.unit = images[0].unit
    return np.stack([image.pixels[0] for image in images])


def _image(path: Path, row: Mapping[str, Any], spec: ImageSpec | None) -> Image:
    """An image; in HU where the model makes them and the file cannot say so, as a volume's cannot."""
    made = spec.intensity.get(str(row.get("modality"))) if spec is not None else None
    in_hu = made is not None and made.unit == HU and not states_unit(path)
    return read_image(path, unit=HU if in_hu else None)


def _dose(arm: Arm, told: Mapping[str, Any]) -> str:
    """What was changed from what to what; numbers by twenties, since no two patients have the same."""
    return f"{arm.name} | " + ", ".join(f"{name}={_rounded(told.get(name))}" for name in arm.changes)


def _rounded(value: Any) -> str:
    try:
        return f"{20 * round(float(value) / 20)}"
    except (TypeError, ValueError):
        return str(value)
