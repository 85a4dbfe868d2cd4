"""Volumes in a browser: slices without WebGL, three planes with it, the difference of a what-if over the anatomy."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from studio_browser import accessible, drawn, launched, needs_browser, page
from studio_server import Served, serving, volume_model, volumes

from medloom.data.images import read_image
from medloom.data.manifest import read_manifest
from medloom.studio.results.pictures import picture_of
from medloom.studio.results.truth import case_of, described_case

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
SLICE = "(plane) => { const s = medloomViewer.sources[0].slice(plane, 5); return [s.height, s.width, ...s.values] }"
PLANES = "() => medloomViewer.planes && medloomViewer.root.dataset.state === 'ready'"


@pytest.fixture(scope="module")
def studio(volume_model: Path, volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / "studio"
    with serving(folder, f"--model={volume_model}", f"--data={volumes}", "--device=cpu") as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    # WebGL without a graphics card, which makes all else slower.
    with launched("--use-angle=swiftshader", "--enable-unsafe-swiftshader") as opened:
        yield opened


def colours(png: bytes) -> np.ndarray:
    """How far each pixel is from grey."""
    levels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int32)
    return levels.max(axis=-1) - levels.min(axis=-1)


def test_slices_are_those_of_the_file(page: "Page", studio: Served, volumes: Path) -> None:
    page.goto("/cases")
    page.locator(".case-list a").first.click()
    page.wait_for_selector("[data-viewer][data-state=ready]")
    file = sorted((volumes.parent / "images").glob("*.nii.gz"))
    known = {path.name: read_image(path) for path in file}
    values = np.asarray(page.evaluate("() => Array.from(medloomViewer.sources[0].values)"), np.float32)
    image = next(own for own in known.values() if np.array_equal(own.pixels.ravel(), values))
    for plane in ("axial", "coronal", "sagittal"):
        slice_of = (
            "(plane) => { const s = medloomViewer.sources[0].slice(plane, 5); return [s.height, s.width, ...s.values] }"
        )
        height, width, *shown = page.evaluate(slice_of, plane)
        # As the server draws it where there is no script: in the radiological convention.
        low, high = float(image.pixels.min()), float(image.pixels.max())
        picture = np.asarray(Image.open(io.BytesIO(picture_of(image, (low, high), plane, 5, None))), np.float32)
        levels = (np.asarray(shown).reshape(int(height), int(width)) - low) / (high - low) * 255
        assert picture.shape == levels.shape and np.abs(picture - levels).max() <= 0.51
    for key in ("ArrowUp", "p", "2"):
        before = drawn(page)
        page.keyboard.press(key)
        assert drawn(page) != before, key


def test_three_planes_with_the_difference(page: "Page", studio: Served) -> None:
    page.goto("/whatif")
    page.wait_for_selector("[name='set.smoking']")
    was = page.locator("[name='was.smoking']").input_value()
    page.locator("[name='set.smoking']").select_option("never" if was != "never" else "current")
    page.fill("[name=n]", "2")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done, .state.failed", timeout=120_000)
    assert page.locator(".job .state").inner_text() == "done", page.locator(".job").inner_text()
    page.locator("text=Read: arms").click()
    page.wait_for_selector("[data-viewer][data-state=ready]")
    labels = [arm["label"] for arm in json.loads(page.locator("#study").inner_text())["arms"]]
    assert any(label.startswith("difference") for label in labels)
    page.keyboard.press("m")
    page.wait_for_function(
        "() => medloomViewer.planes && medloomViewer.root.dataset.state === 'ready'", timeout=120_000
    )
    # The factual arm is grey and not blank; the difference lies over it in colours. All panes say what they are.
    place = page.evaluate("() => medloomViewer.panes.findIndex((pane) => pane.source.facts.isDifference)")
    page.wait_for_timeout(500)
    grey, overlaid = (np.asarray(Image.open(io.BytesIO(drawn(page, pane))).convert("L")) for pane in (0, place))
    assert len(np.unique(grey)) > 5 and len(np.unique(overlaid)) > 5
    assert (colours(drawn(page, place)) > 40).mean() > 3 * (colours(drawn(page, 0)) > 40).mean()
    assert page.locator(".mark .synthetic").count() == page.locator(".panes figure").count()
    assert re.search("supported|extrapolated", page.locator(".mark").first.inner_text())
    # One window for all, by one key; one cursor for all.
    before = drawn(page, 0)
    page.keyboard.press("1")
    page.wait_for_function("() => medloomViewer.panes.every((pane) => Math.round(pane.base.cal_min) === -1350)")
    assert drawn(page, 0) != before
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.wait_for_function("() => document.querySelector('[data-said]').textContent.includes('HU')")
    places = page.evaluate("() => medloomViewer.panes.map((pane) => [...pane.view.scene.crosshairPos].join())")
    assert len(set(places)) == 1
    accessible(page)
    page.keyboard.press("m")
    page.wait_for_function("() => !medloomViewer.planes && medloomViewer.root.dataset.state === 'ready'")


def test_a_virtual_patient_and_who_it_would_be(page: "Page", studio: Served, volumes: Path) -> None:
    page.goto("/phantom")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    assert page.evaluate("() => medloomViewer.sources.length") == 1
    # Another patient has values of its own.
    rows = read_manifest(volumes, need=(), need_patients=False).samples()
    page.locator("[name=case]").nth(1).check(force=True)
    page.wait_for_url("**case=**")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    assert float(page.locator("[name='set.age']").input_value()) == rows[1].condition.table["age"]
    assert page.locator(".effects strong").count() == 0
    page.goto("/phantom")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    page.locator("[name='set.diagnosis']").select_option("cardiomegaly")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**set.diagnosis=cardiomegaly**")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    row = rows[0]
    assert row.path is not None
    before, after = case_of(described_case(volumes, row.path)).images({"diagnosis": "cardiomegaly"})  # type: ignore[union-attr]
    shown = np.asarray(page.evaluate("() => Array.from(medloomViewer.sources[2].values)"), np.float32)
    assert np.array_equal(shown, (after.pixels - before.pixels).ravel()) and np.abs(shown).max() > 50
    said = page.locator(".effects tbody").inner_text()
    assert re.search(r"diagnosis\t\w+\tcardiomegaly", said) and "heart_ratio" in said
    accessible(page)
    page.locator("text=Ask a model the same").click()
    page.wait_for_selector("button.main")
    assert "case=row" in page.url
    # What cannot be is said, and nothing is drawn.
    page.goto("/phantom?case=" + page.url.partition("case=")[2].partition("&")[0] + "&set.age=400")
    page.wait_for_selector("text=age=400 is out of range")


def test_without_webgl_it_says_so(page: "Page", studio: Served) -> None:
    page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...more)"
        " { return kind.startsWith('webgl') ? null : get.call(this, kind, ...more); };"
    )
    page.goto("/cases")
    page.locator(".case-list a").first.click()
    page.wait_for_selector("[data-viewer][data-state=ready]")
    page.keyboard.press("m")
    assert "no WebGL 2: look at one plane at a time" in page.locator("[data-said]").inner_text()
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(drawn(page))).convert("L")))) > 5
