"""Whether images of a virtual cohort's held-out prompts show what they were told, by measurements that need no model.

For each finding: sensitivity, specificity and, of those present, the right side; beside the same of the true images.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from medloom.core.config import configure
from medloom.data.images import read_image
from medloom.data.masks import read_mask
from medloom.data.phantom.oracle import Measurement, measure
from medloom.recipes import generate

TOLD = ("diagnosis", "extent", "side")
LESIONS = ("nodule", "pneumonia")


def main(words: list[str]) -> None:
    """Generate, measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=1.0)
    options = parser.parse_args(words)
    data = options.cohort / "test.csv"
    given: dict[str, Any] = {"model": options.model, "data": data, "out": options.out, "count": options.images}
    sampling = {"steps": options.steps, "guidance": options.guidance}
    made = generate.run(configure(generate.Config, **given, **sampling, keep=TOLD))
    print("| finding | images | sensitivity | specificity | side |\n|---|---|---|---|---|")
    for name, table in (("generated", made), ("true", data)):
        rows = list(_measured(table))
        for finding, diagnoses in (("effusion", ("effusion",)), ("solid lesion", LESIONS)):
            print(f"| {finding} | {name} | " + " | ".join(_rates(rows, finding, diagnoses)) + " |")


def _measured(table: Path) -> Iterator[tuple[dict[str, str], Measurement]]:
    for row in csv.DictReader(table.open(encoding="utf-8")):
        mask = read_mask(table.parent / row["mask"]).pixels[0].astype(int)
        yield row, measure(read_image(table.parent / row["path"], unit=None).pixels[0], mask)


def _rates(rows: list[tuple[dict[str, str], Measurement]], finding: str, diagnoses: tuple[str, ...]) -> list[str]:
    """Sensitivity, specificity, and the share of sides that are right among what is told and seen."""
    told = np.array([row["diagnosis"] in diagnoses for row, _ in rows])
    sides = np.array([row["side"] for row, _ in rows])
    seen = np.array([read.effusion_side if finding == "effusion" else read.lesion_side for _, read in rows])
    there = seen != "none"
    # A lesion beside fluid is hidden to the measurement, so that images told to have fluid do not count there.
    counted = np.ones(len(rows), bool) if finding == "effusion" else _dry(rows)
    return [
        _share(there[told & counted]),
        _share(~there[~told & counted]),
        _share((seen == sides)[told & there & counted]),
    ]


def _dry(rows: list[tuple[dict[str, str], Measurement]]) -> np.ndarray:
    return np.array([row["diagnosis"] != "effusion" for row, _ in rows])


def _share(hits: np.ndarray) -> str:
    ends = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return f"{hits.mean():.3f} ({ends.low:.3f} to {ends.high:.3f}), n {len(hits)}"
