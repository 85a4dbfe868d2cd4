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
from medloom.evaluation.effects.support import within_support
from medloom.evaluation.report.estimates import by_unit, estimate_in_family, estimate_mean
from medloom.evaluation.report.metrics import Metric, Reference

SHIFT = "shift in region"
NOISE = "standard deviation over seeds, in region"
BETWEEN = " | "
FAMILY = 0.05

Cells = Mapping[str, object]
Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RegionShift:
    """What an arm changes in one region of one row.

    Attributes:
        arm: name of the arm.
        region: name of the region.
        source: the row.
        shift: mean difference to the factual image over the region and the seeds, in the images' unit.
        noise: standard deviation over seeds of the factual image's mean there; nan for one seed.
        patient: see `unit_of`; empty for a row that is its own unit.
        support: see `Effect`.
    """

    arm: str
    region: str
    source: str
    shift: float
    noise: float
    patient: str = ""
    support: int | None = None

    @property
    def unit(self) -> str:
        """What the row counts for."""
        return self.patient or self.source


@dataclass
class Regions:
    """Reads the masks that a what-if held, and collects the shifts inside their classes.

    Attributes:
        folder: of the what-if.
        spec: the model's image space; None if whatif.json does not hold it.
        names: label to name of the class.
        shifts: one per arm, region and row.
        cells: source of a row to the manifest's row of its factual image.
    """

    folder: Path
    spec: ImageSpec | None
    names: Mapping[int, str]
    shifts: list[RegionShift] = field(default_factory=list)
    cells: dict[str, Cells] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, description: Mapping[str, Any]) -> "Regions":
        """For the folder and the content of whatif.json of a what-if."""
        spec = ImageSpec.from_dict(description["spec"]) if "spec" in description else None
        return cls(folder, spec, {int(label): name for label, name in description.get("classes", {}).items()})

    def add(
        self,
        source: str,
        patient: str,
        cells: Cells,
        factual: Map,
        arms: Mapping[str, Map],
        support: Mapping[str, int | None],
    ) -> None:
        """Collect one row; without a mask there is nothing to collect.

        Args:
            source: the row.
            patient: see `unit_of`.
            cells: the manifest's row of the factual image.
            factual: images `(seeds, *spatial)`.
            arms: name to images of the same seeds.
            support: of each arm; see `Effect`.

        Raises:
            UserError: a mask on another grid.
        """
        self.cells[source] = cells
        if not cells.get("mask"):
            return
        path, shape = self.folder / str(cells["mask"]), factual.shape[1:]
        mask = read_image(path)
        if mask.size != shape and (self.spec is None or self.spec.size != shape):
            raise UserError(f"{path}: a mask of {mask.size} for images of {shape}; run the what-if again.")
        labels = mask.pixels[0] if mask.size == shape or self.spec is None else read_labels(path, self.spec)
        for label in (int(label) for label in np.unique(labels) if label > 0):
            inside = labels == label
            values = factual[:, inside].mean(axis=1)
            noise = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            region = self.names.get(label, f"label {label}")
            for name, images in arms.items():
                shift = float((images[:, inside] - factual[:, inside]).mean())
                self.shifts.append(RegionShift(name, region, source, shift, noise, patient, support[name]))

    def metrics(self, unit: str, seed: int) -> list[Metric]:
        """The mean shift of each arm in each region, within support, and how far another seed moves a region.

        Intervals of shifts cover together: each has the level at which all of them cover with 95 % (Bonferroni).
        """
        by_pair: dict[tuple[str, str], list[RegionShift]] = {}
        for entry in self.shifts:
            by_pair.setdefault((entry.arm, entry.region), []).append(entry)
        by_pair = {pair: own for pair, rows in by_pair.items() if (own := within_support(rows))}
        metrics = []
        for (arm, region), rows in by_pair.items():
            level = 1 - FAMILY / len(by_pair)
            shift = estimate_in_family(np.array([row.shift for row in rows]), [row.unit for row in rows], level)
            note = f"{unit}; interval for {len(by_pair)} comparisons together"
            subset, none = f"{arm}{BETWEEN}{region}", Reference("no change", 0.0)
            metrics.append(Metric.of(shift, name=SHIFT, subset=subset, reference=none, note=note))
        for region in dict.fromkeys(entry.region for entry in self.shifts):
            # The noise of a row's factual image is the same in all arms.
            once = {entry.source: entry for entry in self.shifts if entry.region == region}.values()
            if not any(np.isnan(entry.noise) for entry in once):
                noise = by_unit(np.array([entry.noise for entry in once]), [entry.unit for entry in once])
                spread = estimate_mean(*noise, seed)
                note, none = f"{unit}; of the factual image's mean", Reference("the same seed", 0.0)
                metrics.append(Metric.of(spread, name=NOISE, subset=region, reference=none, note=note))
        return metrics


def shift_table(metrics: Sequence[Metric]) -> tuple[list[str], list[tuple[str, list[Metric | None]]]]:
    """Shifts as a table: the regions; and for each arm, and last for another seed, the metric in each region.

    Args:
        metrics: of a what-if; those with other names are left out.
    """
    shifts = {tuple(metric.subset.split(BETWEEN, 1)): metric for metric in metrics if metric.name == SHIFT}
    noise = {metric.subset: metric for metric in metrics if metric.name == NOISE}
    arms, regions = (list(dict.fromkeys(key[place] for key in shifts)) for place in (0, 1))
    rows = [(arm, [shifts.get((arm, region)) for region in regions]) for arm in arms]
    return regions, [*rows, *([("another seed", [noise.get(region) for region in regions])] if noise else [])]
