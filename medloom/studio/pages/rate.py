"""Rating: each rater's sessions, and one image or pair after the other."""

import time
from typing import Any, Literal

from fastapi import APIRouter, Body, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from medloom.core.errors import UserError
from medloom.core.files import known_content
from medloom.core.image import Image
from medloom.feedback.ratings.entries import PRACTICE, RATING, SYNTHETIC, Entry, Item, Rater, Session
from medloom.studio.results.pictures import open_image
from medloom.studio.web.ratings import Ratings, asked_of, progress_of
from medloom.studio.web.studio import studio_of, user_of
from medloom.studio.web.viewer import Asked, for_blinded, for_viewer

routes = APIRouter()
# An image alone, or the left and the right one of a pair.
LEFT, RIGHT = "a", "b"
Side = Literal["a", "b"]


@routes.get("/rate")
def choose(request: Request) -> Response:
    """Who rates; whoever has logged in is known."""
    studio, ratings = studio_of(request), _ratings(request)
    if studio.settings.passwords:
        return RedirectResponse(f"/rate/{_logged_in(request).link}", status_code=303)
    known = [
        (rater, [progress_of(ratings.store, own) for own in _sessions(ratings, rater)]) for rater in ratings.raters
    ]
    return studio.page(request, "rate_raters.html", raters=known)


@routes.get("/rate/{link}")
def sessions(request: Request, link: str) -> HTMLResponse:
    """The sessions of a rater, and how far they are."""
    ratings, rater = _ratings(request), _rater(request, link)
    known = []
    for session in _sessions(ratings, rater):
        opens = ratings.store.opens(session)
        known.append((progress_of(ratings.store, session), opens, opens is not None and opens <= time.time()))
    return studio_of(request).page(request, "rate_sessions.html", rater=rater, sessions=known, practice=PRACTICE)


@routes.get("/rate/{link}/{number}")
def rate(request: Request, link: str, number: int) -> HTMLResponse:
    """The page of a session, which shows one image after the other."""
    ratings, session = _ratings(request), _session(request, link, number)
    progress, asked = progress_of(ratings.store, session), asked_of(session)
    setup = {
        "base": f"/rate/{link}/{number}",
        "total": progress.total,
        "done": [[place, progress.entries[place].kind] for place in progress.order],
        "seconds": progress.seconds,
        "practice": session.mode == PRACTICE,
        **asked,
    }
    return studio_of(request).page(
        request, "rate_session.html", link=link, progress=progress, asked=asked, setup=setup, practice=PRACTICE
    )


@routes.get("/rate/{link}/{number}/{place}")
def case(request: Request, link: str, number: int, place: int) -> JSONResponse:
    """What a place shows: its images as the viewer takes them, the prompt, and what was answered before."""
    ratings, session = _ratings(request), _session(request, link, number)
    shown = _items(ratings, session, place)
    given = ratings.store.given(session, place)
    labels = ("left", "right") if len(shown) > 1 else ("image",)
    arms = [
        {
            "base": f"/rate/{link}/{number}/{place}/{side}",
            "label": label,
            "generated": not session.blind and item.source == SYNTHETIC,
        }
        for side, label, item in zip((LEFT, RIGHT), labels, shown, strict=False)
    ]
    return JSONResponse(
        {
            "study": {
                "id": f"{number}-{place + 1}",
                "modality": "rating of pairs" if len(shown) > 1 else "rating",
                "arms": arms,
                "layout": "1x2" if len(shown) > 1 else "1x1",
                "blind": session.blind,
            },
            "text": shown[0].text,
            "about": "" if session.blind else " | ".join(map(_described, shown)),
            "given": None
            if given is None
            else {"answers": given.answers, "flags": given.flags, "comment": given.comment},
        }
    )


@routes.get("/rate/{link}/{number}/{place}/{side}/{asked}")
def for_rater(request: Request, link: str, number: int, place: int, side: Side, asked: Asked) -> Response:
    """An image for the viewer, of which a blinded rater learns nothing else."""
    session = _session(request, link, number)
    shown = _items(_ratings(request), session, place)
    if side == RIGHT and len(shown) == 1:
        raise UserError("there is no second image here.")
    image = _image(shown[(LEFT, RIGHT).index(side)])
    return for_blinded(image, asked) if session.blind else for_viewer(image, asked)


@routes.post("/rate/{link}/{number}/{place}")
def post(request: Request, link: str, number: int, place: int, sent: dict[str, Any] = Body()) -> JSONResponse:  # noqa: B008
    """Keep a rating, a skip or an undo; once this is answered, it is on the disk."""
    ratings, session = _ratings(request), _session(request, link, number)
    entry = Entry(
        sent.get("id", ""),
        sent.get("kind", ""),
        sent.get("answers", {}),
        sent.get("flags", ()),
        sent.get("comment", ""),
        sent.get("seconds", 0.0),
    )
    kept = ratings.store.post(session, place, entry)
    answer: dict[str, Any] = {"id": kept.id, "time": kept.time}
    if session.mode == PRACTICE and kept.kind == RATING:
        answer["truth"] = ratings.store.item(session.presentations[place].item).source
    return JSONResponse(answer)


def _ratings(request: Request) -> Ratings:
    found = studio_of(request).ratings
    if found is None:
        raise UserError("this studio has no ratings; start it with --rate.")
    return found


def _logged_in(request: Request) -> Rater:
    """The rater who has logged in.

    Raises:
        UserError: the user rates nothing.
    """
    for rater in _ratings(request).raters:
        if rater.name.casefold() == user_of(request):
            return rater
    raise UserError(f"{user_of(request)} is none of the raters; start the studio with the name among --raters.")


def _rater(request: Request, link: str) -> Rater:
    """The rater of an address.

    Raises:
        UserError: it is none's, or another user's.
    """
    studio, ratings = studio_of(request), _ratings(request)
    rater = ratings.store.rater_of_link(link)
    if rater not in ratings.raters or (studio.settings.passwords and rater != _logged_in(request)):
        # As of an address that does not exist.
        return ratings.store.rater_of_link("")
    return rater


def _sessions(ratings: Ratings, rater: Rater) -> list[Session]:
    """A rater's sessions in the order in which they are done: each practice before what it is for."""
    found = ratings.store.sessions(rater.name)
    return sorted(found, key=lambda session: (abs(session.number), session.number))


def _session(request: Request, link: str, number: int) -> Session:
    """A session that may be rated now.

    Raises:
        UserError: there is none, or it is not open yet.
    """
    store, rater = _ratings(request).store, _rater(request, link)
    session = store.session(rater.name, number)
    opens = store.opens(session)
    if opens is None or opens > time.time():
        raise UserError("this session is not open yet; your list of sessions says when it is.")
    return session


def _items(ratings: Ratings, session: Session, place: int) -> list[Item]:
    """The image of a place, or the two of a pair."""
    if not 0 <= place < len(session.presentations):
        raise UserError("there is no such image in this session.")
    shown = session.presentations[place]
    return [ratings.store.item(name) for name in (shown.item, shown.other) if name]


def _image(item: Item) -> Image:
    """An image, if its file is still the one that the series was planned with."""
    if known_content(item.path) != item.content:
        raise UserError("the file of this image is another one than when the series was begun; put it back.")
    return open_image(item.path, item.unit)


def _described(item: Item) -> str:
    """Where an image is from, for raters who may know it."""
    seed = item.cells.get("seed")
    known = (item.path.name, item.source, f"seed {seed}" if seed else "")
    return ", ".join(filter(None, known))
