"""The application: pages behind their guard, and sentences for whatever goes wrong."""

import errno
import logging
import traceback

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from medloom.core.errors import UnwrittenError, UserError
from medloom.studio.pages import (
    cases,
    edit,
    entry,
    generate,
    history,
    jobs,
    phantom,
    rate,
    readings,
    runs,
    sources,
    whatif,
)
from medloom.studio.web.guard import FORM_BYTES, TOO_LARGE, Guard, names_of
from medloom.studio.web.ratings import Ratings
from medloom.studio.web.studio import STATIC, Settings, Studio

LOG = logging.getLogger("medloom.studio")
BAD_REQUEST, NOT_FOUND, DEFECT, NO_SPACE = 400, 404, 500, 507
# Of a disk that is full, a share of one that is used up, and a file that is as large as files may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNREADABLE = "The request has a part that cannot be read; go back and try again."


def create_app(settings: Settings, ratings: Ratings | None = None) -> Guard:
    """The application of a studio.

    Args:
        settings: how it is served.
        ratings: that it has, or None.

    Raises:
        UserError: its folder cannot be used.
    """
    studio = Studio(settings, ratings)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.studio = studio
    pages = [generate, edit, whatif, jobs, history, runs, cases, phantom, readings, sources]
    # Pages of results would say to a blinded rater where an image is from.
    shown = [] if ratings is not None and ratings.blind else pages
    for module in [entry, *([rate] if ratings is not None else []), *shown]:
        app.include_router(module.routes)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(UserError, _mistake)
    app.add_exception_handler(RequestValidationError, _unreadable)
    # Of characters that are none: halves of pairs, which no browser sends.
    app.add_exception_handler(UnicodeEncodeError, _unreadable)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(OSError, _unwritten)
    app.add_exception_handler(Exception, _defect)
    public = settings.public
    guard = Guard(
        app,
        studio.store,
        names_of(settings.host, public),
        frozenset({public.rstrip("/")} if public else ()),
        users=frozenset(settings.passwords),
        secure=bool(public and public.startswith("https://")),
        # With what surrounds the file in its form.
        largest=settings.largest + FORM_BYTES,
    )
    app.state.guard = guard
    return guard


def _mistake(request: Request, error: Exception) -> Response:
    """A user's mistake, in its sentence."""
    if isinstance(error, UnwrittenError):
        return _said(request, str(error), NO_SPACE)
    return _said(request, str(error), NOT_FOUND if request.method == "GET" else BAD_REQUEST)


def _unreadable(request: Request, error: Exception) -> Response:
    return _said(request, UNREADABLE, BAD_REQUEST)


def _refused(request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (NOT_FOUND, "")
    known = {NOT_FOUND: "There is no such page.", BAD_REQUEST: UNREADABLE, TOO_LARGE: detail}
    return _said(request, known.get(status, "This cannot be done here."), status)


def _unwritten(request: Request, error: Exception) -> Response:
    """What the system refused: for want of space, or by a defect."""
    if isinstance(error, OSError) and error.errno in FULL:
        folder = request.app.state.studio.store.folder
        sentence = (
            f"{folder} cannot be written ({error.strerror}): free some space there and try again; nothing is lost."
        )
        return _said(request, sentence, NO_SPACE)
    return _defect(request, error)


def _defect(request: Request, error: Exception) -> Response:
    """A defect of the studio: where it happened goes into the log, without a message that may quote a prompt."""
    where = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("%s %s: %s\n%s", request.method, request.url.path, type(error).__name__, where)
    return _said(request, "An unexpected error in medloom; the log of the studio has where it happened.", DEFECT)


def _said(request: Request, sentence: str, status: int) -> Response:
    """A sentence as a page, or as a part of the page that asked."""
    studio: Studio = request.app.state.studio
    template = "message.html" if request.headers.get("hx-request") else "message_page.html"
    return studio.page(request, template, status, sentence=sentence[:1].upper() + sentence[1:])
