"""Blind readings and reading tasks by counted keys: no title, mark or address says too early where an image is from."""

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from studio_browser import TABLET, accessible, browser, drawn, generate, needs_browser, page, studio
from studio_server import Served, editor, model, table, triples

from medloom.core.errors import UserError
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.readings import planned
from medloom.studio.results.readings import Origin, as_csv, counts_of, right_of
from medloom.studio.store.readings import Plan, Reading
from medloom.studio.store.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

REAL, GENERATED = [f"row:t.csv:{k}" for k in range(30)], [f"job:a:{k}" for k in range(30)]


def test_as_many_real_as_generated() -> None:
    plan = planned({"n": "20", "seed": "3"}, REAL, GENERATED)
    assert len(set(plan.items)) == 20 and sum(item in REAL for item in plan.items) == 10
    assert plan == planned({"n": "20", "seed": "3"}, REAL, GENERATED)
    assert plan.items != planned({"n": "20", "seed": "4"}, REAL, GENERATED).items
    kinds = [item in REAL for item in plan.items]
    assert kinds not in (sorted(kinds), sorted(kinds, reverse=True)), "not shuffled"
    # Where there are too few of one kind, the others fill up; of one kind alone, all are of that.
    assert sum(item in REAL for item in planned({"n": "20"}, REAL[:4], GENERATED).items) == 4
    assert sum(item in REAL for item in planned({"n": "20"}, REAL, GENERATED[:3]).items) == 17
    assert set(planned({"n": "5"}, REAL, []).items) < set(REAL) and set(planned({"n": "5"}, [], GENERATED).items) < {
        *GENERATED
    }


@pytest.mark.parametrize(
    ("form", "field", "said"),
    [
        ({"n": "0"}, "n", "whole number from 1 to 500"),
        ({"choices": "one"}, "choices", "2 to 10 answers"),
        ({"choices": ",".join(map(str, range(11)))}, "choices", "2 to 10 answers"),
        ({"seed": "x"}, "seed", "whole number"),
    ],
)
def test_what_cannot_be_planned(form: dict[str, str], field: str, said: str) -> None:
    with pytest.raises(FormError) as caught:
        planned(form, REAL, GENERATED)
    assert said in caught.value.fields[field]
    with pytest.raises(FormError, match="a table, or a job"):
        planned({}, [], [])


def test_an_answer_that_is_locked_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "studio")
    reading = store.readings.add("anna", Plan("t", "?", ("real", "generated"), tuple(REAL[:3]), 0, reveals=False))
    store.readings.lock(reading, 1, "real", "sharp", 3.5)
    store.readings.lock(reading, 1, "real", "again", 9.0)
    with pytest.raises(UserError, match="answered with 'real' before"):
        store.readings.lock(reading, 1, "generated", "", 1.0)
    (kept,) = Store(tmp_path / "studio").readings.answers(reading).values()
    assert (kept.place, kept.answer, kept.comment, kept.seconds) == (1, "real", "sharp", 3.5)
    with pytest.raises(UserError, match="no such reading"):
        store.readings.get("ben", reading.id)
    store.readings.remove(reading)
    assert store.readings.of("anna") == [] and store.readings.answers(reading) == {}


def test_what_answers_say(tmp_path: Path) -> None:
    store = Store(tmp_path / "studio")
    plan = Plan("t", "?", ("real", "generated"), tuple(REAL[:4]), 0, reveals=False)
    reading: Reading = store.readings.add("anna", plan)
    for place, answer in enumerate(("real", "real", "generated", "generated")):
        store.readings.lock(reading, place, answer, 'a "soft", edge', 1.0)
    origins = [Origin(place > 0, f"image {place}", "7", "c", "m", f"patient {place}") for place in range(4)]
    answers = store.readings.answers(reading)
    counts = counts_of(reading, answers, origins)
    assert counts == {"real": {"real": 1}, "generated": {"real": 1, "generated": 2}}
    right = right_of(reading, answers, origins)
    assert right is not None and right.value == 0.75 and 0 < right.low < 0.5 and right.n == 4
    rows = list(csv.DictReader(io.StringIO(as_csv(answers, origins))))
    assert [row["origin"] for row in rows] == ["real", "generated", "generated", "generated"]
    assert rows[0]["comment"] == 'a "soft", edge'
    other = store.readings.add("anna", Plan("t", "?", ("left", "right"), tuple(REAL[:4]), 0, reveals=False))
    assert right_of(other, answers, origins) is None


class Keys:
    """Keys that are pressed, counted."""

    def __init__(self, page: "Page") -> None:
        self.page, self.count = page, 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.count += 1


def ready(page: "Page", title: str = "") -> None:
    page.wait_for_function(
        "(title) => document.querySelector('[data-viewer]')?.dataset.state === 'ready'"
        " && document.querySelector('h1')?.textContent.startsWith(title)",
        arg=title,
    )


@needs_browser
def test_twenty_blinded_images_by_forty_keys(page: "Page", studio: Served) -> None:
    generate(page, studio, n="12")
    page.goto("/readings")
    accessible(page)
    page.locator("[name=table]").nth(1).uncheck()
    page.locator("[name=job]").first.check()
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/readings/*/*")
    keys = Keys(page)
    for number in range(1, 21):
        ready(page, f"Image {number} of 20")
        if number in (1, 2):
            # Nothing on the page or in what it asked for says where the image is from.
            seen = page.content() + json.dumps(page.evaluate("() => medloomViewer.sources.map((one) => one.facts)"))
            assert not re.search(
                r"job:|row:|/jobs/|SYNTHETIC\"|seed \d|\.csv|[0-9a-f]{16}\"", seen.partition("<footer")[0]
            )
            assert page.evaluate("() => medloomViewer.study.blind && !medloomViewer.sources[0].facts.generated")
            accessible(page)
        if number == 3:
            # Without a choice nothing is locked.
            page.keyboard.press("Enter")
            page.wait_for_selector("#said .message")
        keys.press("ab"[number % 2], "ArrowRight")
        page.wait_for_function(
            "(number) => document.querySelector('h1')?.textContent.startsWith(`Image ${number} `) === false", arg=number
        )
    assert keys.count == 40
    page.wait_for_selector("text=% right")
    accessible(page)
    assert page.locator("tbody tr").count() == 2 + 20
    with page.expect_download() as caught:
        page.locator("text=Answers as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == 20 and {row["origin"] for row in rows} == {"real", "generated"}
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert all(bool(row["model"]) == (row["origin"] == "generated") for row in rows)
    # Now it may be said, in the picture too; and an answer stays.
    made = next(number for number, row in enumerate(rows) if row["origin"] == "generated")
    page.locator("tbody").nth(1).locator("a").nth(made).click()
    ready(page, "Image")
    assert "was generated" in page.locator(".answers").inner_text()
    assert page.evaluate("() => medloomViewer.sources[0].facts.generated && !medloomViewer.study.blind")
    assert page.locator("fieldset[disabled]").count() == 1
    page.set_viewport_size(TABLET)  # type: ignore[arg-type]
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@needs_browser
def test_the_side_of_a_finding(page: "Page", studio: Served) -> None:
    page.goto("/readings")
    page.locator("[name=table]").nth(1).uncheck()
    page.fill("[name=question]", "On which side is the disc?")
    page.fill("[name=choices]", "left, right, both, none")
    page.fill("[name=n]", "2")
    page.check("[name=reveals]")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/readings/*/*")
    ready(page, "Image 1")
    # The window by one key, the answer by one; then it is said where the image is from, and one key leads on.
    before, keys = drawn(page), Keys(page)
    keys.press("4")
    assert drawn(page) != before
    keys.press("a", "Enter")
    page.wait_for_selector("text=is a patient's")
    ready(page, "Image 1")
    keys.press("ArrowRight")
    ready(page, "Image 2")
    assert keys.count == 4


@needs_browser
def test_one_region_in_two_arms(page: "Page", studio: Served) -> None:
    generate(page, studio, n="2")
    page.locator(".grid a").first.click()
    ready(page)
    keys = Keys(page)
    before = drawn(page)
    keys.press("4")
    assert drawn(page) != before
    before = drawn(page)
    keys.press(" ")
    assert drawn(page) != before
    keys.press(" ", "r")
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.45)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.55)
    page.mouse.up()
    table_of = page.locator("[data-measures] table")
    assert [len(row.split("\t")) for row in table_of.inner_text().splitlines()] == [3] * 4
    with page.expect_download() as caught:
        keys.press("e")
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8"))))
    assert {row["arm"] for row in rows} == {"image 0, seed 0", "image 1, seed 1"} and len(rows) == 6
    keys.press("ArrowRight")
    page.wait_for_function("() => location.pathname.endsWith('/images/1')")
    assert keys.count == 6


@needs_browser
def test_measures_are_taken_on_one_grid_only(page: "Page", studio: Served) -> None:
    """A length that was drawn on one image says nothing of another size, and what lies outside is not measured."""
    page.goto("/about")
    found = page.evaluate(
        """async () => {
            const { Source } = await import("/static/viewer/source.js");
            const { asCSV, fits, gridOf } = await import("/static/viewer/measures.js");
            const made = (label, height, width, spacing) => new Source(
                { label, shape: [1, height, width], unit: "HU", spacing, edges: [null, null, null, null], seed: "0" },
                new Float32Array(height * width).fill(5));
            const arms = [made("one", 4, 6, [1, 1]), made("same", 4, 6, [1, 1]), made("wide", 4, 8, [1, 1]),
                made("coarse", 4, 6, [2, 2])];
            const grid = gridOf(arms[0].slice("axial", 0));
            const measure = { kind: "length", plane: "axial", level: 0, places: [[0, 0], [3, 4]], grid };
            return [arms.map((arm) => fits(measure, arm)), asCSV([measure], arms)];
        }"""
    )
    fitting, written = found
    assert fitting == [True, True, False, False]
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [row["arm"] for row in rows] == ["one", "same"] and {row["value"] for row in rows} == {"5"}
    # A flat image has no plane and no slice.
    assert {(row["plane"], row["level"], row["unit"]) for row in rows} == {("", "", "mm")}
