"""Rating by keys in a browser: nothing lost on reload or without a studio, nothing that says where an image is from."""

import json
import re
from typing import TYPE_CHECKING, Any

from rating_pages import IMAGES, open_session, rated, ready, saved, state, studio
from studio_browser import TABLET, accessible, browser, drawn, needs_browser
from studio_server import Served

from medloom.feedback.ratings.entries import RATING, SKIP, UNDO
from medloom.feedback.ratings.export import pairs_table, ratings_table
from medloom.feedback.ratings.store import RatingStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
TOTAL = IMAGES + 2


def test_keys_undo_skip_and_resume(browser: "Browser", studio: Served, rated: RatingStore) -> None:
    page = open_session(browser, studio, rated, "anna", 1)
    keys = page.keyboard
    accessible(page)
    # Without both answers nothing is kept, and keys of the viewer rate nothing.
    keys.press("d")
    keys.press("Enter")
    assert page.inner_text("[data-message]") == "Match to the prompt: choose an answer first, by its key."
    before = drawn(page)
    keys.press("4")
    assert drawn(page) != before
    before = drawn(page)
    keys.press("+")
    keys.press("i")
    assert drawn(page) != before
    assert state(page) == {"answers": {"realism": 2}, "flags": [], "comment": "", "place": 0}
    for key in ("k", "t", "b", "t"):
        keys.press(key)
    # In the comment letters are text; Enter leads back to the keys.
    keys.press("q")
    keys.type("dark, as at dusk.")
    keys.press("Enter")
    assert state(page)["comment"] == "dark, as at dusk."
    keys.press("Enter")
    ready(page, 2)
    # Another image in its own size; what was inverted stays so.
    assert page.evaluate("() => [medloomViewer.common.zoom, medloomViewer.common.invert]") == ["fit", True]
    assert state(page) == {"answers": {}, "flags": [], "comment": "", "place": 1}
    keys.press(".")
    ready(page, 3)
    for key in ("a", "n", "ArrowRight"):
        keys.press(key)
    ready(page, 4)
    # Back to the last one with its answers, and to the one before it, which was skipped.
    keys.press("z")
    ready(page, 3)
    assert state(page)["answers"] == {"realism": 1, "match": 1}
    keys.press("ArrowLeft")
    ready(page, 2)
    keys.press("ArrowLeft")
    ready(page, 1)
    assert state(page)["answers"] == {"realism": 2, "match": 3} and state(page)["flags"] == ["anatomy"]
    saved(page)
    # A reload finds what was answered, although it was taken back.
    page.reload()
    ready(page, 1)
    assert state(page) == {
        "answers": {"realism": 2, "match": 3},
        "flags": ["anatomy"],
        "comment": "dark, as at dusk.",
        "place": 0,
    }
    keys.press("f")
    keys.press("Enter")
    ready(page, 2)
    keys.press(".")
    ready(page, 3)
    saved(page)
    session = rated.session("anna", 1)
    kinds = {place: entry.kind for place, entry in rated.latest(session).items()}
    assert kinds == {0: RATING, 1: SKIP, 2: UNDO}
    first = rated.latest(session)[0]
    assert (first.answers, first.flags, first.comment) == (
        {"realism": 3, "match": 3},
        ("anatomy",),
        "dark, as at dusk.",
    )
    assert 0 < first.seconds < 60
    assert page.wrong == []  # type: ignore[attr-defined]
    page.context.close()
    # From another computer the session continues where it was; at the end the skipped one is offered.
    page = open_session(browser, studio, rated, "anna", 1)
    ready(page, 3)
    assert "1 rated, 1 skipped of 10" in page.inner_text("[data-progress]")
    for number in range(3, TOTAL + 1):
        ready(page, number)
        if number == 3:
            page.locator("[data-answer]").nth(1).click()
        else:
            page.keyboard.press("d")
        page.keyboard.press("k")
        page.keyboard.press("Enter")
    page.wait_for_selector("[data-end]:not([hidden])")
    accessible(page)
    page.click("text=Rate the 1 that you skipped")
    ready(page, 2)
    page.keyboard.press("d")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-end]:not([hidden])")
    saved(page)
    page.click("text=All sessions")
    assert "10 of 10" in page.inner_text("main")
    accessible(page)
    own = ratings_table(rated.path).query("rater == 'anna' and session == 1")
    assert len(own) == TOTAL and own["repeat"].sum() == 2
    assert page.wrong == []  # type: ignore[attr-defined]
    page.context.close()


def test_two_raters_at_once_without_an_answering_studio(browser: "Browser", studio: Served, rated: RatingStore) -> None:
    pages = {name: open_session(browser, studio, rated, name, 1) for name in ("ben", "carl")}
    ben, carl = pages.values()

    def rate(page: "Page", number: int, realism: str) -> None:
        ready(page, number)
        for key in (realism, "k", "Enter"):
            page.keyboard.press(key)

    for number in (1, 2):
        rate(ben, number, "a")
        rate(carl, number, "f")
    saved(carl)
    # From now on the studio keeps nothing of carl: rating continues, and the page says so.
    carl.route("**/rate/*/1/*", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    for number in (3, 4, 5):
        rate(carl, number, "f")
    carl.wait_for_selector("text=Not saved yet: 3.")
    rate(ben, 3, "a")
    saved(ben)
    own = {name: rated.session(name, 1) for name in pages}
    assert [sorted(rated.latest(session)) for session in own.values()] == [[0, 1, 2], [0, 1]]
    # A reload loses nothing, and one that is taken back is sent behind its rating.
    carl.reload()
    ready(carl, 6)
    carl.wait_for_selector("text=Not saved yet: 3.")
    carl.keyboard.press("z")
    ready(carl, 5)
    carl.unroute_all()
    saved(carl)
    entries = rated.latest(own["carl"])
    assert [entry.kind for entry in entries.values()] == [RATING] * 4 + [UNDO]
    assert {entry.answers["realism"] for entry in entries.values() if entry.kind == RATING} == {3}
    assert {entry.answers["realism"] for entry in rated.latest(own["ben"]).values()} == {1}
    carl.wait_for_selector("[data-unsaved][hidden]", state="attached")
    failed = [line for line in carl.wrong if "ERR_FAILED" not in line]  # type: ignore[attr-defined]
    assert failed == [] and ben.wrong == []  # type: ignore[attr-defined]
    for page in pages.values():
        page.context.close()


def test_nothing_says_where_an_image_is_from(browser: "Browser", studio: Served, rated: RatingStore) -> None:
    page = open_session(browser, studio, rated, "ben", 3)
    replies: list[Any] = []
    page.reload()
    page.on("response", lambda reply: replies.append(reply))
    ready(page, 1)
    page.wait_for_function("() => medloomRating.cases.size > 3")
    page.evaluate("async () => { await Promise.all(medloomRating.cases.values()); }")
    known = [reply for reply in replies if "/rate/" in reply.url]
    said = " ".join(f"{reply.url} {reply.headers} {'' if 'pixels' in reply.url else reply.text()}" for reply in known)
    said += page.inner_text("[data-rating]") + json.dumps(page.evaluate("() => medloomViewer.study"))
    assert len(known) > 8 and "Finding" in said
    names = [each.item for each in rated.session("ben", 3).presentations]
    assert not any(name in said for name in names)
    assert not re.search(r"made\d|patients?[-\d]|\.png|seed|SYNTHETIC\"|: \"synthetic|/tmp|last-modified|etag", said)
    facts = page.evaluate("() => medloomViewer.sources.map((one) => one.facts)")
    assert all(not own["generated"] and own["spacing"] is None and own["edges"] == [None] * 4 for own in facts)
    # Keys of ratings are none of the viewer's, and letters lead to no other page.
    keys = page.evaluate(
        "() => [...document.querySelectorAll('[data-rating-key]')].map((one) => one.dataset.ratingKey)"
    )
    assert keys == list("adfjk")
    pressed = "(keys) => keys.filter((key) => medloomViewer.onKey(new KeyboardEvent('keydown', { key })))"
    assert page.evaluate(pressed, [*"abdfjknqtuz.", "Enter"]) == []
    page.keyboard.press("g")
    page.keyboard.press("a")
    assert state(page)["answers"] == {"confidence": 1} and "/rate/" in page.url
    assert page.locator("nav a").all_inner_texts() == ["Ratings", "About"]
    # On a tablet nothing is wider than the page.
    page.set_viewport_size(TABLET)  # type: ignore[arg-type]
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    accessible(page)
    assert page.wrong == []  # type: ignore[attr-defined]
    page.context.close()


def test_pairs_and_practice(browser: "Browser", studio: Served, rated: RatingStore) -> None:
    page = open_session(browser, studio, rated, "anna", 2)
    assert page.locator("canvas").count() == 2
    accessible(page)
    before = [drawn(page, pane) for pane in (0, 1)]
    assert before[0] != before[1]
    for number, key in enumerate(("a", "d", "f"), 1):
        ready(page, number)
        page.keyboard.press(key)
        page.keyboard.press("Enter")
    ready(page, 4)
    saved(page)
    assert list(pairs_table(rated.path)["preferred"]) == ["first", "equal", "second"]
    # In a practice it is said what each image is, and an answer stays.
    page.goto(f"/rate/{rated.rater('anna').link}")
    page.click("text=Begin >> nth=0")
    ready(page, 1)
    practice = rated.session("anna", -3)
    sources = [rated.item(each.item).source for each in practice.presentations]
    for number, source in enumerate(sources, 1):
        ready(page, number)
        page.keyboard.press("k" if number % 2 else "a")
        page.keyboard.press("Enter")
        right = (source == "synthetic") == bool(number % 2)
        page.wait_for_selector(f"text=You were {'right' if right else 'wrong'}: it is {source}.")
        page.keyboard.press("z")
        assert "an answer stays" in page.inner_text("[data-message]")
        page.keyboard.press("Enter")
    page.wait_for_selector("[data-end]:not([hidden])")
    assert len(rated.latest(practice)) == 4
    assert "origin" not in set(ratings_table(rated.path)["rubric"])
    assert page.wrong == []  # type: ignore[attr-defined]
    page.context.close()
