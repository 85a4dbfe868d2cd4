"""Looking back: settings one by one, two results, where a file is from, results saved under a name; keys alone."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import medloom
from studio_browser import accessible, browser, fill, generate, needs_browser, page, studio
from studio_server import Served, editor, model, table, triples

from medloom.core.errors import UserError
from medloom.studio.forms.settings import recalled, settings_of
from medloom.studio.results.folder import read_result
from medloom.studio.results.saving import save_result
from medloom.studio.store.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_settings_are_those_that_were_filled_in() -> None:
    form = {"model": "run", "seed": "7", "column.age": "40", "view": "", "set.sex": "male", "was.sex": "male", "n": "2"}
    assert [(own.name, own.label, own.value) for own in settings_of({**form, "cohort": "/data/secret"})] == [
        ("model", "model", "run"),
        ("seed", "seed", "7"),
        ("column.age", "age", "40"),
        ("n", "images", "2"),
    ]


def test_one_setting_is_recalled_alone(tmp_path: Path) -> None:
    form = {"model": "run", "seed": "7", "text": "A disc.", "set.age": "60", "was.age": "40"}
    job = Store(tmp_path / "studio").jobs.add("anna", "generate", ["--n=1"], "one", form)
    assert recalled(job) == form
    assert recalled(job, only="seed") == {"model": "run", "seed": "7"}
    assert recalled(job, only="set.age") == {"model": "run", "set.age": "60", "was.age": "40"}
    assert recalled(job, seed="9") == {**form, "seed": "9"}
    assert recalled(None, seed="9") == {"seed": "9"}


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "../x", "con", "a.", "x" * 81, "a\0b", "/tmp/x"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    made, root = tmp_path / "made", tmp_path / "root"
    made.mkdir(), root.mkdir()
    (made / "000000.png").write_bytes(b"x")
    with pytest.raises(UserError, match="give a name of up to 80"):
        save_result(read_result(made), root, name)
    assert list(root.iterdir()) == [] and {own.name for own in tmp_path.iterdir()} == {"made", "root"}


def test_a_launcher_starts_the_studio_as_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["studio", "--out", "my studio", "--port", "0", "--no-open", "--launcher"]
    assert medloom([*asked, "go.command"]) == 0
    written = (tmp_path / "go.command").read_text()
    assert f"cd {tmp_path}" in written and "'--out=my studio' --port=0 --no-open" in written
    assert (tmp_path / "go.command").stat().st_mode & 0o111
    assert not (tmp_path / "my studio").exists()
    assert medloom([*asked, "go.command"]) == 2 and "there is such a file" in capsys.readouterr().err
    assert medloom([*asked, "go.exe"]) == 2 and ".bat for Windows" in capsys.readouterr().err


def bring_mask(page: "Page", file: Path) -> None:
    """Open Generate, and bring a mask."""
    page.goto("/generate")
    page.wait_for_selector("#masks .choice")
    before = page.locator("#masks .choice").count()
    page.set_input_files("input[aria-label='Bring a mask']", file)
    page.wait_for_function("(before) => document.querySelectorAll('#masks .choice').length > before", arg=before)


@needs_browser
def test_two_results_next_to_each_other(page: "Page", studio: Served) -> None:
    one = generate(page, studio, n="2", seed="1")
    other = generate(page, studio, n="2", seed="1", age="52")
    page.goto("/history")
    for job in (other, one):
        page.locator(f"input[name=job][value='{job}']").check()
    page.locator("text=Compare the two").click()
    page.wait_for_selector("[data-viewer][data-state=ready]")
    rows = [row.split("\t") for row in page.locator(".effects tbody").inner_text().splitlines()]
    assert [(row[0], {*row[1:]}) for row in rows] == [("age", {"40", "52"})]
    seeds = page.evaluate("() => medloomViewer.sources.map((one) => one.facts.seed)")
    assert seeds == ["1", "1", "2", "2"]
    accessible(page)
    page.goto("/history")
    page.locator(f"input[name=job][value='{one}']").check()
    page.locator("text=Compare the two").click()
    page.wait_for_selector("text=Choose two jobs to compare, not 1.")


@needs_browser
def test_settings_and_files_say_where_they_are_from(page: "Page", studio: Served, tmp_path: Path) -> None:
    job = generate(page, studio, n="2", seed="21")
    # A setting of another job comes into the form alone.
    fill(page, text="A disc, right.", seed="99")
    page.locator("details.settings summary").click()
    page.locator("[data-use=seed]").click()
    assert page.locator("[name=seed]").input_value() == "21"
    assert page.locator("[name=text]").input_value() == "A disc, right."
    page.goto(f"/jobs/{job}")
    page.locator("details.settings summary").click()
    page.locator("[data-use='column.age']").click()
    page.wait_for_url(re.compile("only=column.age"))
    page.wait_for_selector("[name='column.age']")
    assert page.locator("[name='column.age']").input_value() == "40" and page.locator("[name=text]").input_value() == ""
    # An image finds its job by its bytes; one from elsewhere says that it does not.
    page.goto("/history")
    drop = page.locator("input[aria-label='Bring an image whose job is looked for']")
    drop.set_input_files(studio.folder / "results" / job / "000001.png")
    page.wait_for_selector("text=is image 1 of")
    assert page.locator("[data-drop-said] a").first.get_attribute("href") == f"/jobs/{job}/images/1"
    assert "seed 22" in page.locator("[data-drop-said]").inner_text()
    (tmp_path / "other.png").write_bytes(b"something else")
    drop.set_input_files(tmp_path / "other.png")
    page.wait_for_selector("text=its settings are not known here")


@needs_browser
def test_what_is_gone_is_said(page: "Page", studio: Served, table: Path) -> None:
    """A mask that was removed is not left out in silence; and a job of a reading stays."""
    bring_mask(page, table.parent / "m2.png")
    fill(page, text="A disc, left.", age="40", smoking="never", n="2")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    job = (page.locator(".job").get_attribute("id") or "").removeprefix("job-")
    page.goto("/history")
    page.locator("[aria-label='Remove m2.png']").click()
    page.wait_for_function("() => !document.body.textContent.includes('m2.png')")
    page.goto(f"/generate?job={job}")
    page.wait_for_selector("text=The mask is gone")
    page.goto("/readings")
    for box in page.locator("[name=table]").all():
        box.uncheck()
    page.locator("[name=job]").first.check()
    page.fill("[name=n]", "2")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/readings/*/*")
    page.goto("/history")
    page.on("dialog", lambda dialog: dialog.accept())
    row = page.locator("li", has=page.locator(f"a[href='/jobs/{job}']"))
    row.locator("text=Remove").click()
    page.wait_for_selector("text=A blind reading has images of this job")
    assert Store(studio.folder).jobs.get(job).state == "done" and row.count() == 1


@needs_browser
def test_two_models_on_the_same_conditions(page: "Page", studio: Served) -> None:
    page.goto("/generate")
    page.wait_for_selector("[name=also]")
    fill(page, text="A disc, left.", age="40", smoking="never", n="1")
    page.locator("[name=mask]").nth(1).check()
    other = page.locator("[name=also] option").nth(1).inner_text()
    # Another model has the fields that it shares as they were filled in.
    for name in (other, page.locator("[name=model]").input_value()):
        with page.expect_response("**/generate/form**"):
            page.locator("[name=model]").select_option(name)
        page.wait_for_selector("#masks", state="detached" if name == other else "attached")
        assert page.locator("[name=text]").input_value() == "A disc, left."
        assert page.locator("[name=n]").input_value() == "1"
    page.wait_for_selector("#masks")
    fill(page, age="40", smoking="never")
    page.locator("[name=mask]").nth(1).check()
    page.locator("[name=also]").select_option(other)
    page.keyboard.press("Control+Enter")
    # The other one edits: it says why it cannot be asked for the same.
    page.wait_for_selector(".wrong:not([data-drop-said])")
    assert other in page.locator(".wrong:not([data-drop-said])").inner_text()
    page.goto("/runs")
    for box in page.locator("[name=run]").all():
        box.check()
    page.locator("text=Show").first.click()
    page.locator("text=Generate by both").click()
    page.wait_for_selector("[name=also]")
    assert page.locator("[name=also]").input_value() == other


@needs_browser
def test_generate_what_if_and_edit_by_keyboard_alone(page: "Page", studio: Served) -> None:
    def reach(name: str) -> None:
        """Go to a field by the tabulator."""
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.name") == name:
                return
        raise AssertionError(f"{name} is not reached")

    page.goto("/generate")
    page.wait_for_selector("button.main")
    reach("text")
    page.keyboard.type("A disc, left.")
    reach("mask")
    page.keyboard.press("Space")
    reach("column.age")
    page.keyboard.type("40")
    reach("column.smoking")
    page.keyboard.type("never")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    page.keyboard.press("Escape")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("g")
    page.keyboard.press("w")
    page.wait_for_url("**/whatif")
    page.wait_for_selector("button.main")
    reach("set.smoking")
    was = page.locator("[name='was.smoking']").input_value()
    page.keyboard.type("never" if was == "current" else "current")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("g")
    page.keyboard.press("e")
    page.wait_for_url("**/edit")
    page.wait_for_selector("button.main")
    reach("prior")
    page.keyboard.press("Space")
    reach("text")
    page.keyboard.type("A spot has appeared.")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")


@needs_browser
def test_files_are_kept_and_removed(page: "Page", studio: Served, table: Path) -> None:
    bring_mask(page, table.parent / "m1.png")
    assert page.locator("#masks input:checked").count() == 1
    page.goto("/history")
    page.locator("li", has=page.locator("[aria-label='Remove m1.png']")).locator("text=Keep").click()
    page.wait_for_selector("text=kept until you remove it")
    store = Store(studio.folder)
    (upload,) = [upload for upload in store.uploads.of("local") if upload.name == "m1.png"]
    assert upload.kept and (studio.folder / upload.file).is_file()
    page.locator("[aria-label='Remove m1.png']").click()
    page.wait_for_selector("text=Files that you brought", state="visible")
    page.wait_for_function("() => !document.body.textContent.includes('m1.png')")
    assert not (studio.folder / upload.file).exists()


def test_results_are_saved_whole(tmp_path: Path) -> None:
    made, root = tmp_path / "made", tmp_path / "root"
    made.mkdir(), root.mkdir()
    (made / "000000.png").write_bytes(b"x")
    (made / "manifest.csv").write_text("path\n000000.png\n")
    target = save_result(read_result(made), root, "my images (2)")
    assert {own.name for own in target.iterdir()} == {"000000.png", "manifest.csv"}
    with pytest.raises(UserError, match="there is a folder"):
        save_result(read_result(made), root, "my images (2)")
    assert [own.name for own in root.iterdir()] == ["my images (2)"]
