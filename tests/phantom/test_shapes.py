"""Solids against volumes and areas known in closed form; textures as functions of the place."""

import numpy as np
import pytest

from medloom.phantom.shapes import (
    Points,
    ellipsoid,
    inside,
    slice_affine,
    slice_points,
    smooth_noise,
    superellipse,
    volume_affine,
    volume_points,
)


def cube(size: int, step: float) -> Points:
    axis = (np.arange(size) - (size - 1) / 2) * step
    return Points(axis[:, None, None], axis[None, :, None], axis[None, None, :], step)


@pytest.mark.parametrize("radius", [12.0, 20.3])
def test_a_sphere_has_its_volume(radius: float) -> None:
    points = cube(32, 2.0)
    volume = inside(ellipsoid(points, (0, 0, 0), (radius,) * 3), points.edge).sum() * 8
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)


def test_an_ellipse_has_its_area_and_a_superellipse_of_power_two_is_one() -> None:
    points = slice_points(256)
    whole = inside(superellipse(points.x, points.y, 90.0, 60.0, 2.0), points.edge).sum() * points.edge**2
    same = inside(ellipsoid(points, (0, 0, 0), (90.0, 60.0, np.inf)), points.edge).sum() * points.edge**2
    assert whole == pytest.approx(np.pi * 90 * 60, rel=0.002)
    assert same == pytest.approx(whole, rel=0.002)


def test_distances_are_signed_and_right_along_the_axes() -> None:
    points = Points(np.array([0.0, 25.0, 35.0]), np.zeros(1), np.zeros(1), 1.0)
    np.testing.assert_allclose(ellipsoid(points, (0, 0, 0), (30.0,) * 3)[1:], [-5.0, 5.0], atol=1e-6)


def test_moving_a_patient_moves_the_image() -> None:
    points = slice_points(64)
    placed = points.moved((points.edge, 0.0, 0.0), 0.0)
    still = inside(ellipsoid(points, (10.0, 0, points.z[0, 0]), (40.0, 30.0, 50.0)), points.edge)
    moved = inside(ellipsoid(placed, (10.0, 0, points.z[0, 0]), (40.0, 30.0, 50.0)), points.edge)
    np.testing.assert_allclose(moved[:, 1:], still[:, :-1], atol=1e-9)


def test_turning_by_a_quarter_swaps_the_axes() -> None:
    points = slice_points(64)
    disc = inside(ellipsoid(points, (60.0, 0, 0), (20.0, 20.0, np.inf)), points.edge)
    turned_points = points.moved((0, 0, 0), np.pi / 2)
    turned = inside(ellipsoid(turned_points, (60.0, 0, 0), (20.0, 20.0, np.inf)), points.edge)
    np.testing.assert_allclose(turned, disc.T, atol=1e-9)


def test_a_texture_is_a_function_of_the_position() -> None:
    coarse, fine = smooth_noise(slice_points(32), 60.0, 16, "t", 1), smooth_noise(slice_points(96), 60.0, 16, "t", 1)
    # The middle of three fine pixels is the middle of a coarse one.
    assert np.corrcoef(coarse.ravel(), fine[1::3, 1::3].ravel())[0, 1] > 0.99
    assert coarse.std() == pytest.approx(1.0, abs=0.35)


def test_a_slice_lies_in_the_volume_where_its_affine_says() -> None:
    size = 64
    slice_at, volume = slice_affine(size), volume_affine(size)
    corner = slice_at @ [0, 0, 0, 1]
    # Rows go to the back and columns to the left: the first pixel is front right, and RAS counts both up.
    assert corner[0] > 0
    assert corner[1] > 0
    points = volume_points(size)
    index = (5, 9, 11)
    x, y, z = points.x[5, 0, 0], points.y[0, 9, 0], points.z[0, 0, 11]
    np.testing.assert_allclose((volume @ [*index, 1])[:3], (-x, -y, z))
