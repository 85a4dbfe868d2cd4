"""The pages in a browser, as a user goes through them: Generate, What-if, the viewer, history; by keys alone too."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from studio_browser import TABLET, accessible, browser, drawn, fill, generate, needs_browser, page, studio
from studio_server import Served, editor, model, table, triples

from medloom.data.images import read_image
from medloom.studio.store.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
# How many pixels the brush has covered.
COVERED = (
    "() => { const { region } = window.medloomBrush;"
    " return region.getContext('2d').getImageData(0, 0, region.width, region.height).data"
    ".filter((level, k) => k % 4 === 3 && level > 0).length }"
)


def test_generate_and_look(page: "Page", studio: Served) -> None:
    job = generate(page, studio, n="3", seed="7")
    images = page.locator(".grid figure.image img")
    assert images.count() == 3 and page.locator(".synthetic").count() == 3
    assert f"job={job}" in page.url
    accessible(page)
    page.locator("summary", has_text="Command line").click()
    assert "medloom generate" in page.locator(".copyable code").first.inner_text()
    # What is shown is what is on the disk.
    images.first.click()
    page.wait_for_selector("[data-viewer][data-state=ready]")
    stored = np.asarray(Image.open(studio.folder / "results" / job / "000000.png"), np.float32)
    shown = page.evaluate("() => Array.from(medloomViewer.arms[0].values)")
    assert np.array_equal(
        np.asarray(shown, np.float32), stored.ravel() if stored.ndim == 2 else np.moveaxis(stored, -1, 0).ravel()
    )
    accessible(page)
    page.set_viewport_size(TABLET)  # type: ignore[arg-type]
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_the_viewer_by_keys(page: "Page", studio: Served) -> None:
    generate(page, studio, n="2")
    page.locator(".grid a").first.click()
    page.wait_for_selector("[data-viewer][data-state=ready]")
    before = drawn(page)
    assert len(set(Image.open(__import__("io").BytesIO(before)).convert("L").getdata())) > 5, "a blank canvas"
    for key, back in ((" ", " "), ("i", "i"), ("4", "1"), ("+", "0"), ("c", "c")):
        page.keyboard.press(key)
        assert drawn(page) != before, key
        page.keyboard.press(back)
    page.keyboard.press("r")
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.6)
    page.mouse.up()
    said = page.locator("[data-measures] table").inner_text()
    assert "1 region, mean" in said and "1 region, SD" in said and "1 region, area" in said
    with page.expect_download() as caught:
        page.keyboard.press("e")
    lines = Path(caught.value.path()).read_text().splitlines()
    assert lines[0].startswith("measure,kind,arm,what,value,unit") and len(lines) == 1 + 2 * 3
    assert re.search(r",0,[0-9a-f]{16},[0-9a-f]{16}$", lines[1])


def test_mistakes_are_said_next_to_their_fields(page: "Page", studio: Served) -> None:
    page.goto("/generate")
    page.wait_for_selector("button.main")
    page.evaluate("() => document.querySelector('form').noValidate = true")
    fill(page, text="", n="999", age="400")
    page.click("button.main")
    page.wait_for_selector(".wrong")
    said = page.locator("#form").inner_text()
    assert "Say what the images should show" in said and "give a whole number from 1 to 64" in said
    assert "age is '400'; give a number from" in said
    assert page.locator("[name=n]").get_attribute("aria-invalid") == "true"


def test_what_if_by_keyboard_alone(page: "Page", studio: Served) -> None:
    page.goto("/generate")
    page.keyboard.press("g")
    page.keyboard.press("w")
    page.wait_for_url("**/whatif")
    page.wait_for_selector("[name='set.smoking']")
    page.focus("[name='set.smoking']")
    page.keyboard.press("ArrowDown")
    if page.locator("[name='set.smoking']").input_value() == page.locator("[name='was.smoking']").input_value():
        page.keyboard.press("ArrowUp")
    page.focus("[name=n]")
    page.keyboard.press("Control+A")
    page.keyboard.type("3")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    page.focus("text=Read: arms")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    page.wait_for_selector(".effects table")
    arms = json.loads(page.locator("#study").inner_text())["arms"]
    assert arms[0]["label"] == "factual, generated" and arms[-1]["isDifference"]
    assert re.search("supported|extrapolated|not counted", arms[1]["support"])
    assert "difference of conditional means" in page.locator(".effects").inner_text()
    # The colours of a difference are stretched where it is dragged, and the window of the images stays.
    pane = page.evaluate("() => medloomViewer.panes.findIndex((pane) => pane.source.facts.isDifference)")
    box = page.locator("canvas").nth(pane).bounding_box()
    state = "() => { const { reach, low, high } = medloomViewer.common; return [reach, low, high] }"
    assert box is not None
    before = page.evaluate(state)
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.mouse.up()
    after = page.evaluate(state)
    assert 0 < after[0] < 0.7 * before[0] and after[1:] == before[1:]
    accessible(page)


def test_history_recalls(page: "Page", studio: Served) -> None:
    job = generate(page, studio, n="1", seed="11", text="A disc, right.")
    page.goto("/history")
    assert page.locator(f"a[href='/jobs/{job}']").count() == 1
    page.locator(f"a[href='/generate?job={job}']").click()
    page.wait_for_selector("button.main")
    assert (
        page.locator("[name=text]").input_value() == "A disc, right."
        and page.locator("[name=seed]").input_value() == "11"
    )
    for address in ("/history", "/runs", "/about", "/edit"):
        page.goto(address)
        accessible(page)


def secret_dicom(path: Path) -> Path:
    """An X-ray with a name in its header."""
    from pydicom import dcmread

    from medloom.core.image import Image as Picture
    from medloom.data.images import write_derived

    values = np.random.default_rng(0).integers(0, 255, (1, 16, 16)).astype(np.float32)
    write_derived(path, Picture(values, "grey level", 255.0), "a test")
    header = dcmread(path)
    header.PatientName, header.PatientID, header.InstitutionName = "Quokka^Anna", "MRN-4711", "St Elsewhere"
    header.save_as(path)
    return path


def test_edit_a_file_that_is_brought(page: "Page", studio: Served, tmp_path: Path) -> None:
    page.goto("/edit")
    page.wait_for_selector("#priors .choice")
    page.set_input_files("input[type=file]", secret_dicom(tmp_path / "Quokka_Anna.dcm"))
    page.wait_for_selector("#priors input[name=prior]:checked")
    brought = [path for path in (studio.folder / "uploads").rglob("*") if path.is_file()]
    assert brought and not any(re.search(rb"Quokka|MRN-4711|Elsewhere", path.read_bytes()) for path in brought)
    fill(page, text="A spot has appeared.", n="2")
    page.check("[name=region][value=brush]")
    canvas = page.locator("[data-brush] canvas")
    canvas.wait_for(state="visible")
    page.wait_for_function("() => document.querySelector('[data-brush] canvas').width === 16")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.3)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('[name=drawn]').value !== ''")
    accessible(page)
    # A further stroke, and the form is sent at once: it waits for the stroke.
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    page.mouse.up()
    drawn = page.evaluate(COVERED)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done, .state.failed")
    assert page.locator(".job .state").inner_text() == "done", page.locator(".job").inner_text()
    page.click("text=Read: arms")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    labels = [arm["label"] for arm in json.loads(page.locator("#study").inner_text())["arms"]]
    assert labels == ["prior image", "edited, seed 0", "edited, seed 1", "difference, seed 0", "difference, seed 1"]
    (job,) = [job for job in Store(studio.folder).jobs.of("local") if job.command == "edit"][:1]
    region = next(word for word in job.words if word.startswith("--region=")).partition("=")[2]
    assert (read_image(Path(region)).pixels > 0).sum() == drawn
    # A region belongs to its edit: it is no mask to choose, and comes back with the form.
    page.goto(f"/edit?job={job.id}")
    page.wait_for_function("() => document.querySelector('[data-brush] canvas')?.width === 16")
    page.wait_for_function(f"() => ({COVERED})() === {drawn}")
    assert page.locator("[name=drawn]").input_value() == job.form["drawn"]
    page.goto("/generate")
    page.wait_for_selector("#masks .choice")
    assert "region.png" not in page.locator("#masks").inner_text()
    page.goto(f"/jobs/{job.id}/read")
    page.wait_for_selector("[data-viewer][data-state=ready]")
    # Outside of what was drawn nothing has changed.
    changed = page.evaluate("() => Array.from(medloomViewer.sources[3].values).map(Math.abs)")
    inside = np.asarray(changed).reshape(16, 16)
    assert inside[10:].max() == 0 and inside.max() > 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.txt", b"not an image", "is not of a format that is read"),
        ("broken.png", b"\x89PNG\r\n\x1a\nbroken", "the file"),
        ("empty.dcm", b"", "the file"),
        ("scan.nii.gz", b"\x1f\x8b" + b"0" * 50, "the file"),
    ],
)
def test_files_that_are_no_image(
    page: "Page", studio: Served, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    page.goto("/edit")
    page.wait_for_selector("#priors .choice")
    before = page.locator("#priors .choice").count()
    page.set_input_files("input[type=file]", tmp_path / name)
    text = "document.querySelector('[data-drop-said]').textContent"
    page.wait_for_function(f"() => {text} !== '' && !{text}.startsWith('Reading ')")
    assert said in page.locator("[data-drop-said]").inner_text().replace("The file", "the file")
    assert page.locator("#priors .choice").count() == before
    assert not list((studio.folder / "uploads").rglob("incoming-*"))


def test_a_file_that_is_too_large(page: "Page", studio: Served, tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as stream:
        stream.truncate(500 * 2**20)
    page.goto("/edit")
    page.wait_for_selector("#priors .choice")
    page.set_input_files("input[type=file]", tmp_path / "large.png")
    page.wait_for_function("() => document.querySelector('[data-drop-said]').textContent.includes('too large')")
    said = page.locator("[data-drop-said]").inner_text()
    assert said.startswith("large.png is too large: it has 500 MB, and at most 200 MB can be brought;")


def test_a_file_that_does_not_arrive(browser: "Browser", studio: Served, tmp_path: Path) -> None:
    """It is removed before the page hears of it, so the browser cannot send it, and says so in its console."""
    (tmp_path / "gone.png").write_bytes(b"x" * 1000)
    with browser.new_context(base_url=studio.address) as context:
        page = context.new_page()
        page.goto("/edit")
        page.wait_for_selector("#priors .choice")
        held = "(event) => { event.stopImmediatePropagation(); window.held = event.target; }"
        page.evaluate(f"() => document.addEventListener('change', {held}, {{ capture: true, once: true }})")
        page.set_input_files("input[type=file]", tmp_path / "gone.png")
        (tmp_path / "gone.png").unlink()
        page.evaluate("() => window.held.dispatchEvent(new Event('change', { bubbles: true }))")
        page.wait_for_function("() => document.querySelector('[data-drop-said]').textContent.includes('has not come')")
        assert "look whether it still runs" in page.locator("[data-drop-said]").inner_text()


def test_cases_are_read_with_one_key_each(page: "Page", studio: Served) -> None:
    page.goto("/cases")
    accessible(page)
    page.locator(".case-list a").first.click()
    for number in range(1, 6):
        page.wait_for_selector("[data-viewer][data-state=ready]")
        assert page.locator("h1").inner_text() == f"Case {number} of 24"
        # Images of patients are not marked as generated.
        assert page.evaluate("() => medloomViewer.sources.some((source) => source.facts.generated)") is False
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"() => document.querySelector('h1').textContent === 'Case {number + 1} of 24'")
    accessible(page)
