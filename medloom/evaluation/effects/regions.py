"""Shifts inside the regions of the held mask: how much an arm changes each of them, over patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.spec import ImageSpec
from medloom.data.images import read_image
from medloom.data.masks import read_labels
from medloom.evaluation.report.metrics import Figure, Reference
from medloom.metrics.uncertainty import bootstrap_mean

SECTION = "effects"
SHIFT = "shift in region"
NOISE = "deviation over seeds, in region"
BETWEEN = " | "
FAMILY = 0.05


@dataclass(frozen=True, eq=False)
class RegionShift:
    """What an arm changes in one region of one patient.

    Attributes:
        arm: name of the arm.
        region: name of the region.
        source: the patient.
        shift: mean difference to the factual image over the region and the seeds, in the images' unit.
        noise: deviation over seeds of the factual image's mean there; nan for one seed.
    """

    arm: str
    region: str
    source: str
    shift: float
    noise: float


@dataclass
class Regions:
    """Reads the masks that a what-if held, and collects the shifts inside their classes.

    Attributes:
        folder: of the what-if.
        spec: the model's image space, or None where whatif.json does not say it.
        names: label -> name of the class.
        shifts: a row for each arm, region and patient.
        told: patient -> the manifest's row of the factual image.
    """

    folder: Path
    spec: ImageSpec | None
    names: Mapping[int, str]
    shifts: list[RegionShift] = field(default_factory=list)
    told: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, description: Mapping[str, Any]) -> "Regions":
        """For the folder and whatif.json of a what-if."""
        spec = ImageSpec.from_dict(description["spec"]) if "spec" in description else None
        return cls(folder, spec, {int(label): name for label, name in description.get("classes", {}).items()})

    def masks(self, told: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, NDArray[np.bool_]]:
        """The classes of a patient's mask on the images' grid, by name; none where no mask is held.

        Args:
            told: the manifest's row.
            shape: of an image.

        Raises:
            UserError: the mask is not to be had on that grid.
        """
        if not told.get("mask"):
            return {}
        path = self.folder / str(told["mask"])
        labels = self._labels(path, shape)
        found = [int(label) for label in np.unique(labels) if label > 0]
        return {self.names.get(label, f"label {label}"): labels == label for label in found}

    def _labels(self, path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
        mask = read_image(path)
        if mask.size == shape:
            return mask.pixels[0]
        if self.spec is None or self.spec.size != shape:
            raise UserError(f"{path}: a mask of {mask.size} for images of {shape}; run the what-if again.")
        return read_labels(path, self.spec)

    def add(
        self, source: str, told: Mapping[str, Any], factual: NDArray[Any], arms: Mapping[str, NDArray[Any]]
    ) -> None:
        """Collect one patient.

        Args:
            source: the patient.
            told: the manifest's row of the factual image.
            factual: images `(seeds, *spatial)`.
            arms: name -> images of the same seeds.
        """
        self.told[source] = told
        for region, inside in self.masks(told, factual.shape[1:]).items():
            values = factual[:, inside].mean(axis=1)
            noise = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            for name, images in arms.items():
                shift = float((images[:, inside] - factual[:, inside]).mean())
                self.shifts.append(RegionShift(name, region, source, shift, noise))

    def figures(self, unit: str, seed: int) -> list[Figure]:
        """The mean shift of each arm in each region that two patients or more have, and what another seed moves there.

        Intervals of shifts hold together: each has the level at which all of them cover with 95 % (Bonferroni).
        """
        by_pair: dict[tuple[str, str], list[RegionShift]] = {}
        for entry in self.shifts:
            by_pair.setdefault((entry.arm, entry.region), []).append(entry)
        pairs = {pair: rows for pair, rows in by_pair.items() if len({row.source for row in rows}) > 1}
        shifts = [_shift(arm, region, rows, len(pairs), unit, seed) for (arm, region), rows in pairs.items()]
        by_region = {region: rows for (_, region), rows in pairs.items()}
        noise = {region: rows for region, rows in by_region.items() if not any(np.isnan(row.noise) for row in rows)}
        return [*shifts, *(_noise(region, rows, unit, seed) for region, rows in noise.items())]


def shift_table(figures: Sequence[Figure]) -> tuple[list[str], list[tuple[str, list[Figure | None]]]]:
    """Shifts for people: the regions, and for each arm, and at last for another seed, the figure in each of them.

    Args:
        figures: of a what-if; those of other metrics are left out.
    """
    shifts = {tuple(f.subset.split(BETWEEN, 1)): f for f in figures if f.metric == SHIFT}
    noise = {f.subset: f for f in figures if f.metric == NOISE}
    arms, regions = (list(dict.fromkeys(key[place] for key in shifts)) for place in (0, 1))
    rows = [(arm, [shifts.get((arm, region)) for region in regions]) for arm in arms]
    return regions, [*rows, *([("another seed", [noise.get(region) for region in regions])] if noise else [])]


def _shift(arm: str, region: str, rows: Sequence[RegionShift], comparisons: int, unit: str, seed: int) -> Figure:
    interval = bootstrap_mean(
        np.array([row.shift for row in rows]),
        [row.source for row in rows],
        seed,
        # Percentiles far out need more resamples than the usual thousand.
        n=max(1000, 200 * comparisons),
        level=1 - FAMILY / comparisons,
    )
    return Figure.of(
        interval,
        section=SECTION,
        metric=SHIFT,
        subset=f"{arm}{BETWEEN}{region}",
        counted="patients",
        reference=Reference("no change", 0.0),
        note=f"{unit}; interval for {comparisons} comparisons together",
    )


def _noise(region: str, rows: Sequence[RegionShift], unit: str, seed: int) -> Figure:
    interval = bootstrap_mean(np.array([row.noise for row in rows]), [row.source for row in rows], seed)
    return Figure.of(
        interval,
        section=SECTION,
        metric=NOISE,
        subset=region,
        counted="patients",
        reference=Reference("the same seed", 0.0),
        note=f"{unit}; of the factual image's mean",
    )
