"""The renderer: known HU and ratios by construction, sides, twins, two and three dimensions."""

from dataclasses import replace

import numpy as np
import pytest

from medloom.phantom.anatomy import Anatomy, Visit, anatomy_of, make_visit
from medloom.phantom.causal import counterfactual, make_patient
from medloom.phantom.cohort_spec import condition_mask
from medloom.phantom.oracle import measure
from medloom.phantom.projection import project
from medloom.phantom.shapes import slice_points, volume_points
from medloom.phantom.thorax import LABELS, NODULE, Rendering, lesion_centre, render

STILL = Visit()
PATIENTS = [make_patient(11, number) for number in range(30)]


def healthy() -> Anatomy:
    patient = next(p for p in PATIENTS if p.values["diagnosis"] == "none" and p.values["smoking"] == "never")
    return replace(anatomy_of(patient, STILL), emphysema=0.0)


def slice_of(anatomy: Anatomy, size: int = 128) -> Rendering:
    return render(anatomy, slice_points(size))


def test_a_nodule_has_its_hu_and_its_volume() -> None:
    anatomy = replace(healthy(), nodule=15.0, side=-1.0)
    volume = render(anatomy, volume_points(96))
    lesion = volume.labels == LABELS["lesion"]
    voxel = (380 / 96) ** 2 * 300 / 96
    assert lesion.sum() * voxel == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.1)
    assert volume.hu[lesion].max() == pytest.approx(NODULE, abs=1)
    # Index 0 counts to the right: a right-sided nodule lies in the upper half.
    assert np.flatnonzero(lesion.any(axis=(1, 2))).min() > 48
    assert lesion_centre(anatomy)[0] < 0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_fluid_lies_on_its_side_at_the_back(side: float) -> None:
    anatomy = replace(healthy(), effusion=0.5, side=side)
    lesion = slice_of(anatomy).labels == LABELS["lesion"]
    rows, columns = np.nonzero(lesion)
    assert (columns.mean() > 64) == (side > 0)
    assert rows.mean() > 64


@pytest.mark.parametrize("ratio", [0.40, 0.48, 0.56])
def test_the_oracle_reads_the_heart_ratio_that_was_built(ratio: float) -> None:
    anatomy = healthy()
    anatomy = replace(anatomy, heart=ratio * anatomy.width)
    rendering = slice_of(anatomy, 256)
    assert measure(rendering.hu, condition_mask(rendering.labels)).heart_ratio == pytest.approx(ratio, abs=0.035)


@pytest.mark.parametrize("hu", [-880.0, -820.0])
def test_the_oracle_reads_the_density_that_was_built(hu: float) -> None:
    rendering = slice_of(replace(healthy(), lung=hu), 256)
    # Vessels and the slope from front to back are the same for both.
    reference = slice_of(replace(healthy(), lung=-850.0), 256)
    read, base = (measure(image.hu, condition_mask(image.labels)).lung_density for image in (rendering, reference))
    assert read - base == pytest.approx(hu + 850, abs=2.5)


def test_the_oracle_reads_emphysema_and_not_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 25, (128, 128)).astype(np.float32)
    readings = {}
    for share in (0.0, 0.15, 0.4):
        rendering = slice_of(replace(healthy(), emphysema=share))
        mask = condition_mask(rendering.labels)
        readings[share] = [measure(image, mask).low_density for image in (rendering.hu, rendering.hu + noise)]
        assert readings[share][0] == pytest.approx(readings[share][1], abs=12)
    assert readings[0.0][1] > readings[0.15][1] + 15 > readings[0.4][1] + 40


@pytest.mark.parametrize("fill", [0.3, 0.6])
def test_the_oracle_reads_more_fluid_where_there_is_more(fill: float) -> None:
    rendering = slice_of(replace(healthy(), effusion=fill, side=1.0))
    read = measure(rendering.hu, condition_mask(rendering.labels))
    assert read.effusion_side == "left"
    assert read.fluid["left"] > fill / 4
    assert read.fluid["right"] < 0.05


def test_a_volume_and_a_slice_agree_with_the_oracle() -> None:
    anatomy = replace(healthy(), effusion=0.5, side=-1.0)
    flat, solid = slice_of(anatomy, 64), render(anatomy, volume_points(64))
    two, three = (measure(image.hu, condition_mask(image.labels)) for image in (flat, solid))
    assert (two.effusion_side, three.effusion_side) == ("right", "right")
    assert two.heart_ratio == pytest.approx(three.heart_ratio, abs=0.06)


@pytest.mark.parametrize("number", range(12))
def test_properties_of_random_patients(number: int) -> None:
    patient = PATIENTS[number]
    visit = make_visit(patient)
    points = slice_points(64).moved(visit.shift, visit.turn)
    one = render(anatomy_of(patient, visit), points, scanner=visit.seed)
    assert -1024 <= one.hu.min() < -950
    assert 100 < one.hu.max() < 1500
    for name in ("body", "thoracic cavity", "left lung", "right lung", "heart", "bone"):
        assert (one.labels == LABELS[name]).sum() > 10, name
    lungs = {name: np.nonzero(one.labels == LABELS[name])[1].mean() for name in ("left lung", "right lung")}
    assert lungs["left lung"] > lungs["right lung"]
    again = render(anatomy_of(patient, visit), points, scanner=visit.seed)
    assert np.array_equal(one.hu, again.hu)
    same = counterfactual(patient, {"coffee": "daily" if patient.values["coffee"] == "rarely" else "rarely"})
    placebo = render(anatomy_of(same, visit), points, scanner=visit.seed)
    assert np.array_equal(one.hu, placebo.hu)


def test_non_descendants_of_smoking_stay_where_they_are() -> None:
    for patient in PATIENTS[:8]:
        other = counterfactual(patient, {"smoking": "current", "pack_years": 60})
        pair = [slice_of(anatomy_of(person, STILL), 64) for person in (patient, other)]
        assert np.array_equal(*(condition_mask(image.labels) for image in pair))


def test_deeper_inspiration_thins_the_lung_and_widens_the_cavity() -> None:
    patient = PATIENTS[0]
    shallow, deep = (anatomy_of(patient, Visit(inspiration=air)) for air in (0.9, 1.1))
    assert deep.lung < shallow.lung
    assert deep.width > shallow.width
    assert deep.heart == pytest.approx(shallow.heart)


def test_a_projection_is_dark_in_the_lungs_and_keeps_the_sides() -> None:
    anatomy = replace(healthy(), effusion=0.5, side=1.0)
    shown = project(anatomy, STILL, 48, noisy=False)
    assert 0 <= shown.levels.min() < 60
    assert shown.levels.max() > 120
    right = shown.masks["right lung"] & ~shown.masks["heart"]
    assert shown.levels[right].mean() < shown.levels[shown.masks["lesion"]].mean()
    assert np.nonzero(shown.masks["lesion"])[1].mean() > 24
