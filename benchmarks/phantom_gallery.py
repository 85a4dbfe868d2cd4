"""The picture of the documentation: 16 virtual patients, each with CT slice, masks, twin difference and projection."""

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas

from medloom.phantom.anatomy import anatomy_of, make_visit
from medloom.phantom.causal import DIAGNOSES, Patient, counterfactual, make_patient
from medloom.phantom.projection import project
from medloom.phantom.shapes import slice_points
from medloom.phantom.thorax import render

SIZE, PATIENTS, SEED = 192, 16, 4
TITLES = ("CT, -1000 to 300 HU", "labels", "had they the other smoking status, ±60 HU", "projection")


def main(words: list[str]) -> None:
    """Draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("docs/images/phantom.png"))
    options = parser.parse_args(words)
    columns = 2 * len(TITLES)
    canvas = Canvas(figsize=(1.9 * columns, 1.75 * PATIENTS / 2), dpi=60, layout="constrained")
    axes = canvas.subplots(PATIENTS // 2, columns)
    for index, patient in enumerate(_patients()):
        half = len(TITLES) * (index % 2)
        _row(axes[index // 2, half : half + len(TITLES)], patient)
    for place, title in enumerate(TITLES * 2):
        axes[0, place].set_title(title, fontsize=7)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(options.out, metadata={"SYNTHETIC": "YES"})
    print(f"{PATIENTS} patients: {options.out}")


def _patients() -> list[Patient]:
    """Two of each diagnosis."""
    cohort = [make_patient(SEED, number) for number in range(300)]
    by_diagnosis = [[patient for patient in cohort if patient.values["diagnosis"] == name] for name in DIAGNOSES]
    return [patient for found in by_diagnosis for patient in found[:2]]


def _row(axes: Any, patient: Patient) -> None:
    visit = make_visit(patient)
    points = slice_points(SIZE).moved(visit.shift, visit.turn)
    one = render(anatomy_of(patient, visit), points, scanner=visit.seed)
    smoked = patient.values["smoking"] != "never"
    change = {"smoking": "never"} if smoked else {"smoking": "current", "pack_years": 60}
    other = counterfactual(patient, change, hold=("diagnosis", "extent", "side"))
    twin = render(anatomy_of(other, visit), points, scanner=visit.seed)
    axes[0].imshow(one.hu, cmap="gray", vmin=-1000, vmax=300)
    axes[1].imshow(one.labels, cmap="tab10", vmin=0, vmax=9)
    axes[2].imshow(twin.hu - one.hu, cmap="RdBu_r", vmin=-60, vmax=60)
    axes[3].imshow(project(anatomy_of(patient, visit), visit, SIZE).levels, cmap="gray", vmin=0, vmax=255)
    values = patient.values
    words = [values["age"], values["sex"], values["smoking"], values["diagnosis"], values["extent"], values["side"]]
    axes[0].text(2, SIZE - 4, ", ".join(str(word) for word in words if word != "none"), color="white", fontsize=5)
    for axis in axes:
        axis.set_axis_off()
