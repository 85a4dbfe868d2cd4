"""The pictures of README and docs/studio.md: the demo's model in the studio, as a browser shows it."""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.studio_load import serving

READY = "[data-viewer][data-state=ready]"
PATIENCE = 120_000


def main(words: list[str]) -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="run folder, e.g. runs/demo/run")
    parser.add_argument("--data", type=Path, required=True, help="held-out rows, e.g. runs/demo/cohort/test.csv")
    parser.add_argument("--set", default="smoking=never", help="what is changed in the what-if")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args(words)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory() as name,
        serving(Path(name) / "studio", options.model, options.data) as studio,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 900}, base_url=studio.address)
        page.set_default_timeout(PATIENCE)
        what_if(page, options.set)
        options.out.mkdir(parents=True, exist_ok=True)
        take(page, options.out / "studio.png")
        generate(page)
        take(page, options.out / "studio_generate.png")
        browser.close()


def take(page: Any, path: Path) -> None:
    """A photograph of the page."""
    page.screenshot(path=path)
    print(path)


def what_if(page: Any, changed: str) -> None:
    """Ask, and open the arms next to the truth."""
    page.goto("/whatif")
    page.wait_for_selector("button.main")
    name, _, value = changed.partition("=")
    field = page.locator(f"[name='set.{name}']")
    if field.evaluate("field => field.tagName") == "SELECT":
        field.select_option(value)
    else:
        field.fill(value)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    page.locator("text=Read: arms").click()
    page.wait_for_selector(READY)


def generate(page: Any) -> None:
    """Fill in the form, and wait for the images."""
    page.goto("/generate")
    page.wait_for_selector("button.main")
    for field in page.locator("#form [name^='column.']").all():
        if field.evaluate("field => field.tagName") == "INPUT":
            field.fill(field.get_attribute("placeholder").partition(" to ")[0])
        else:
            field.select_option(index=1)
    if page.locator("[name=mask]").count():
        page.locator("[name=mask]").first.check()
    page.locator("[name=text]").fill("pleural effusion, severe, on the right")
    page.fill("[name=n]", "8")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    page.evaluate("() => scrollTo(0, 0)")
    # Images below the fold are not loaded.
    page.wait_for_load_state("networkidle")
