"""A browser that goes through the pages as a user does, and what it must not find there."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from studio_server import Served, held_open, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
SLOW = 60_000
WIDE, TABLET = {"width": 1366, "height": 900}, {"width": 820, "height": 1180}


@pytest.fixture(scope="session")
def studio(
    model: Path,
    editor: Path,
    table: Path,
    triples: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Served:
    """One for the files of tests of a process: what a test finds in it may be of another."""
    folder = tmp_path_factory.getbasetemp() / "served"
    # Users name runs and tables from where they are.
    paths = {"--model": (model, editor), "--data": (table, triples)}
    named = [f"{option}={os.path.relpath(path)}" for option, own in paths.items() for path in own]
    return held_open(pytestconfig, "studio", serving(folder, *named, "--device=cpu"))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with launched() as opened:
        yield opened


@contextmanager
def launched(*arguments: str) -> "Iterator[Browser]":
    """A browser within the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: "Browser", studio: Served) -> "Iterator[Page]":
    """A page that fails its test where its console has an error, or where it asks another host for something."""
    context = browser.new_context(viewport=WIDE, base_url=studio.address)
    opened, wrong = context.new_page(), list[str]()
    opened.set_default_timeout(SLOW)
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))

    def look(request: object) -> None:
        address = str(request.url)  # type: ignore[attr-defined]
        if not address.startswith((studio.address, "blob:", "data:")):
            wrong.append(f"a request to {address}")

    opened.on("request", look)
    opened.on("response", lambda answer: wrong.append(answer.url) if answer.status in (404, 500) else None)
    yield opened
    context.close()
    # Refused forms and files are answers like others, and a browser says so in its console.
    unexpected = [line for line in wrong if not re.search("status of 4(00|22)", line)]
    assert unexpected == [], unexpected


def accessible(page: "Page") -> None:
    """No serious or critical finding of axe."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    serious = {entry["id"]: entry["nodes"][0]["html"] for entry in found if entry["impact"] in ("serious", "critical")}
    assert serious == {}


def fill(page: "Page", **values: str) -> None:
    for name, value in values.items():
        field = page.locator(f"[name='{name}'], [name='column.{name}']").first
        if field.get_attribute("type") == "radio":
            page.locator(f"[name='{name}'][value='{value}']").check()
        elif field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


def generate(page: "Page", studio: Served, **values: str) -> str:
    """Fill in and send the form; returns the job's name."""
    page.goto("/generate")
    page.wait_for_selector("button.main")
    fill(
        page,
        **{
            "text": "A disc, left.",
            "age": "40",
            "smoking": "never",
            "mask": page.locator("[name=mask]").nth(1).get_attribute("value") or "",
            **values,
        },
    )
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".state.done")
    return (page.locator(".job").get_attribute("id") or "").removeprefix("job-")


def drawn(page: "Page", pane: int = 0) -> bytes:
    """The pixels of a pane."""
    return page.locator("canvas").nth(pane).screenshot()
