"""Whether images of a virtual cohort's held-out prompts show their findings, by measurements that need no model.

Small lesions are less than a pixel or two of a small image, which the measurement does not read in true images either.
For each finding: sensitivity, specificity and, of those present, the right side; beside the same of the true images.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.through_coder import through_coder
from medloom.data.images import read_image
from medloom.data.masks import read_mask
from medloom.phantom.causal import EXTENTS
from medloom.phantom.oracle import FLUID_FROM, LESION_FROM, Measurement, measure
from medloom.recipes.commands import run_command

GIVEN = ("diagnosis", "extent", "side")
Rows = list[tuple[dict[str, str], Measurement]]
MOST_FOR_THRESHOLDS = 1000
OF_TOKENS = ("top_p", "cutoff", "remasking", "precision")


@dataclass(frozen=True)
class Finding:
    """A finding that the oracle can read.

    Attributes:
        name: of it.
        diagnoses: of patients who have it.
        score: higher where it is there.
        threshold: at and above which it is there; None for the best one on true training images.
        side: which side it is on, where it has one.
        hidden_by: diagnoses whose images say nothing of it: a lesion beside fluid is hidden to the measurement.
        extents: of the patients who have it, those that count.
    """

    name: str
    diagnoses: tuple[str, ...]
    score: Callable[[Measurement], float]
    threshold: float | None = None
    side: Callable[[Measurement], str] | None = None
    hidden_by: tuple[str, ...] = ()
    extents: tuple[str, ...] = EXTENTS

    def rows(self, rows: Rows) -> tuple[Rows, np.ndarray]:
        """Those that say something of it, and who of them has it."""
        others = [(row, read) for row, read in rows if row["diagnosis"] not in (*self.diagnoses, *self.hidden_by)]
        own = [
            (row, read) for row, read in rows if row["diagnosis"] in self.diagnoses and row["extent"] in self.extents
        ]
        return [*own, *others], np.repeat([True, False], [len(own), len(others)])


def _solid(kind: str, other: str, name: str, extents: tuple[str, ...] = EXTENTS) -> Finding:
    """One kind of solid lesion; the measurement does not distinguish it from the other kind."""
    return Finding(
        name,
        (kind,),
        lambda read: max(read.lesion.values()),
        LESION_FROM,
        lambda read: read.lesion_side,
        ("effusion", other),
        extents,
    )


FINDINGS = (
    Finding(
        "effusion", ("effusion",), lambda read: max(read.fluid.values()), FLUID_FROM, lambda read: read.effusion_side
    ),
    _solid("nodule", "pneumonia", "nodule"),
    _solid("nodule", "pneumonia", "nodule, moderate or severe", EXTENTS[1:]),
    _solid("pneumonia", "nodule", "pneumonia"),
    _solid("pneumonia", "nodule", "pneumonia, moderate or severe", EXTENTS[1:]),
    Finding("cardiomegaly", ("cardiomegaly",), lambda read: read.heart_ratio, hidden_by=("effusion",)),
    Finding("emphysema", ("emphysema",), lambda read: -read.low_density),
    Finding("fibrosis", ("IPF", "CTD-ILD"), lambda read: read.lung_density),
)


def main(words: list[str]) -> None:
    """Generate, measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="none: only true images are measured")
    parser.add_argument("--coder", type=Path, help="true images are measured after it as well: a tokenizer's run")
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--guidance-text", type=float, help="of the finding alone, instead of --guidance")
    parser.add_argument("--top-p", type=float, help="of tokens")
    parser.add_argument("--cutoff", type=float, help="of tokens")
    parser.add_argument("--remasking", type=float, help="of tokens")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of tokens")
    options = parser.parse_args(words)
    data = options.cohort / "test.csv"
    sets = {"generated": list(_measured(_generate(options, data)))} if options.model else {}
    sets["true"] = list(_measured(data))
    if options.coder:
        sets["true, through the coder"] = list(_measured(through_coder(data, options.coder, options.out / "through")))
    train = list(_measured(options.cohort / "train.csv", MOST_FOR_THRESHOLDS))
    print("| finding | images | sensitivity | specificity | side |\n|---|---|---|---|---|")
    for finding in FINDINGS:
        threshold = finding.threshold if finding.threshold is not None else _best_threshold(finding, train)
        for name, rows in sets.items():
            print(f"| {finding.name} | {name} | " + " | ".join(_rates(finding, rows, threshold)) + " |")


def _generate(options: argparse.Namespace, data: Path) -> Path:
    given: dict[str, Any] = {"model": options.model, "data": data, "out": options.out, "count": options.images}
    text = [] if options.guidance_text is None else [f"text={options.guidance_text}"]
    asked = {name: getattr(options, name) for name in OF_TOKENS}
    sampling = [f"{name}={value}" for name, value in asked.items() if value is not None]
    given |= {"steps": options.steps, "guidance": [options.guidance, *text], "sampling": sampling}
    return Path(run_command("generate", **given, keep=GIVEN))


def _measured(table: Path, most: int | None = None) -> Iterator[tuple[dict[str, str], Measurement]]:
    with table.open(encoding="utf-8") as lines:
        for row in islice(csv.DictReader(lines), most):
            mask = read_mask(table.parent / row["mask"]).pixels[0].astype(int)
            yield row, measure(read_image(table.parent / row["path"], unit=None).pixels[0], mask)


def _best_threshold(finding: Finding, rows: Rows) -> float:
    """The one with the largest smaller one of sensitivity and specificity, both of which are asked for."""
    kept, given = finding.rows(rows)
    scores = np.array([finding.score(read) for _, read in kept])
    smaller = [min((scores[given] >= at).mean(), (scores[~given] < at).mean()) for at in np.unique(scores)]
    return float(np.unique(scores)[int(np.argmax(smaller))])


def _rates(finding: Finding, rows: Rows, threshold: float) -> list[str]:
    """Sensitivity, specificity, and the share of sides that are right among what is given and seen."""
    kept, given = finding.rows(rows)
    there = np.array([finding.score(read) >= threshold for _, read in kept])
    rates = [_share(there[given]), _share(~there[~given])]
    if finding.side is None:
        return [*rates, ""]
    right = np.array([finding.side(read) == row["side"] for row, read in kept])
    return [*rates, _share(right[given & there])]


def _share(hits: np.ndarray) -> str:
    if not len(hits):
        return "none"
    ends = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return f"{hits.mean():.3f} ({ends.low:.3f} to {ends.high:.3f}), n {len(hits)}"
