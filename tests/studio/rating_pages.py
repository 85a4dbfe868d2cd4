"""A studio whose raters have sessions of every kind, and a page of one of them."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from studio_browser import SLOW, WIDE
from studio_server import Served, serving

from medloom.feedback.ratings.plan import PlanOptions
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RATERS = ("anna", "ben", "carl")
IMAGES = 8


def write_images(root: Path, count: int, seed: int, prompts: int = 0) -> Path:
    """A manifest of noise images."""
    root.mkdir(parents=True)
    random, lines = np.random.default_rng(seed), ["path,text,modality,patient_id,seed"]
    for number in range(count):
        Image.fromarray(random.integers(0, 255, (48, 40), dtype=np.uint8)).save(root / f"{root.name}{number}.png")
        text = f"Finding {number % (prompts or count)}."
        lines.append(f"{root.name}{number}.png,{text},CXR,patient-{number},{number}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "manifest.csv"


def options(**changed: Any) -> PlanOptions:
    usual: dict[str, Any] = {"blind": True, "real_fraction": 0.2, "repeats": 0.0, "round": 1, "rubric": "quality"}
    return PlanOptions(**{**usual, "pairs": False, "practice": 0, "seed": 0, **changed})


def write_store(folder: Path) -> RatingStore:
    """A store of three raters: quality with hidden repeats, pairs, and origin with practice."""
    rated = write_images(folder / "made", IMAGES, 0, prompts=4)
    real = write_images(folder / "patients", 8, 1)
    store = RatingStore(folder / "ratings.db")
    begin_series(store, RATERS, [rated], options(repeats=0.25))
    begin_series(store, RATERS, [rated], options(round=2, pairs=True))
    begin_series(store, RATERS, [rated], options(round=3, rubric="origin", practice=4), real=real)
    return store


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> RatingStore:
    return write_store(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def studio(rated: RatingStore) -> Iterator[Served]:
    with serving(rated.path.parent / "studio", f"--store={rated.path}") as served:
        yield served


def open_session(browser: "Browser", studio: Served, store: RatingStore, rater: str, number: int) -> "Page":
    """A page of a session in a browser of its own, whose errors are collected in `wrong`."""
    context = browser.new_context(viewport=WIDE, base_url=studio.address)  # type: ignore[arg-type]
    page, wrong = context.new_page(), list[str]()
    page.set_default_timeout(SLOW)
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(studio.address) else wrong.append(request.url))
    page.wrong = wrong  # type: ignore[attr-defined]
    page.goto(f"/rate/{store.rater(rater).link}/{number}")
    ready(page)
    return page


def ready(page: "Page", number: int | None = None) -> None:
    """Until the image of a number, from 1, or any, is drawn."""
    page.wait_for_function(
        "(number) => window.medloomRating?.opened !== undefined && medloomRating.place !== null"
        " && (number === null || medloomRating.place === number - 1)"
        " && document.querySelector('[data-viewer]').dataset.state === 'ready'",
        arg=number,
    )


def saved(page: "Page") -> None:
    """Until the studio has all that was rated."""
    page.wait_for_function("() => medloomRating.outbox.waiting.size === 0")


def state(page: "Page") -> dict[str, Any]:
    """What is chosen on the page."""
    found: dict[str, Any] = page.evaluate(
        "() => ({ answers: medloomRating.answers, flags: [...medloomRating.flags],"
        " comment: document.querySelector('[data-comment]').value, place: medloomRating.place })"
    )
    return found


def sent(kind: str = "rating", **changed: Any) -> dict[str, Any]:
    """A rating as a browser sends it."""
    answers = {"realism": 2, "match": 3} if kind == "rating" else {}
    usual = {"id": str(uuid.uuid4()), "kind": kind, "answers": answers, "flags": [], "comment": "", "seconds": 1.5}
    return {**usual, **changed}
