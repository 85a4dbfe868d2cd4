"""How well the phantom's measurements read true images: sides, densities and ratios that the causal model knows."""

import argparse
from collections.abc import Sequence

import numpy as np

from medloom.phantom.causal import EXTENTS
from medloom.phantom.cohort_spec import CohortSpec, condition_mask
from medloom.phantom.oracle import Measurement, measure
from medloom.phantom.thorax import LABELS

LUNGS = [LABELS["left lung"], LABELS["right lung"]]
Seen = Sequence[tuple[dict[str, object], Measurement, float]]


def main(words: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--dims", type=int, default=2)
    options = parser.parse_args(words)
    print("| pixels | what | read right | of |\n|---|---|---|---|")
    for size in options.sizes:
        seen = _seen(CohortSpec(options.patients, seed=5, size=size, dims=options.dims))
        for what, hits in _hits(seen).items():
            print(f"| {size} | {what} | {100 * np.mean(hits):.1f} % | {len(hits)} |")
        for what, error in _errors(seen).items():
            print(f"| {size} | {what} | error {np.mean(error):+.3g}, deviation {np.std(error):.2g} | {len(error)} |")


def _seen(spec: CohortSpec) -> Seen:
    """Of every patient the truth, what is read, and the mean HU of the labelled lungs."""
    seen = []
    for number in range(spec.patients):
        patient = spec.patient(number)
        image = spec.render(patient, spec.visits_of(patient)[0])
        lungs = float(image.values[np.isin(image.labels, LUNGS)].mean())
        seen.append((dict(patient.values), measure(image.values, condition_mask(image.labels)), lungs))
    return seen


def _hits(seen: Seen) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {"no effusion": [], "no lesion": []}
    for values, read, _ in seen:
        diagnosis, extent, side = values["diagnosis"], values["extent"], values["side"]
        if diagnosis == "effusion":
            found.setdefault(f"{extent} effusion and its side", []).append(read.effusion_side == side)
        else:
            found["no effusion"].append(read.effusion_side == "none")
        if diagnosis in ("nodule", "pneumonia"):
            found.setdefault(f"{extent} {diagnosis} and its side", []).append(read.lesion_side == side)
        else:
            found["no lesion"].append(read.lesion_side == "none")
    order = {
        f"{extent} {name} and its side": None for name in ("effusion", "nodule", "pneumonia") for extent in EXTENTS
    }
    return {name: found[name] for name in ("no effusion", "no lesion", *order) if name in found}


def _errors(seen: Seen) -> dict[str, list[float]]:
    """A consolidation that touches the heart adds to its width, so that those with one are left out there."""
    return {
        "lung density, HU (against the labelled lungs)": [read.lung_density - lungs for _, read, lungs in seen],
        "heart ratio (without pneumonia)": [
            read.heart_ratio - float(str(values["heart_ratio"]))
            for values, read, _ in seen
            if values["diagnosis"] != "pneumonia"
        ],
    }
