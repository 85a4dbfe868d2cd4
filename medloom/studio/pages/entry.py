"""The way in: the first page, logging in and out, and what the studio is made of."""

import json
import time
from collections import deque

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from medloom.studio.catalogue import DEMO
from medloom.studio.pages.jobs import job_values
from medloom.studio.uploads.receiving import remove_old
from medloom.studio.web.guard import Guard
from medloom.studio.web.passwords import is_right
from medloom.studio.web.studio import STATIC, studio_of, user_of

routes = APIRouter()
# Passwords that one address may try within so many seconds.
TRIES, WITHIN = 8, 60.0
# Addresses whose tries are counted; with more of them the oldest are not any more.
MOST_ADDRESSES = 10_000
_tries: dict[str, deque[float]] = {}


@routes.get("/")
def start(request: Request) -> Response:
    """The first page: ratings where there are any, Generate, or what to do where there is no model."""
    studio = studio_of(request)
    if studio.ratings is not None:
        return RedirectResponse("/rate", status_code=303)
    if studio.catalogue.paths():
        return RedirectResponse("/generate", status_code=303)
    job = next((job for job in studio.store.jobs.of(user_of(request)) if job.command == DEMO), None)
    values = {} if job is None else job_values(studio, job)
    return studio.page(request, "welcome.html", job=job, **values)


@routes.post("/demo")
def make_demo(request: Request) -> HTMLResponse:
    """Queue the demo, whose run is a model of the studio when it is done."""
    studio = studio_of(request)
    job = studio.store.jobs.add(user_of(request), DEMO, [], "the demo: a virtual cohort and a model of it")
    return studio.page(request, "job.html", job=job, **job_values(studio, job))


@routes.get("/login")
def show_login(request: Request) -> HTMLResponse:
    """The form of name and password."""
    return studio_of(request).page(request, "login.html", wrong="", name="")


@routes.post("/login")
async def log_in(request: Request) -> Response:
    """Begin a session with a right password."""
    studio, guard = studio_of(request), guard_of(request)
    known = studio.settings.passwords
    if not known:
        # Nobody has to log in.
        return RedirectResponse("/", status_code=303)
    form = await request.form()
    name, password = str(form.get("name", "")).strip().casefold(), str(form.get("password", ""))
    address = request.client.host if request.client else ""
    tries = _tries.setdefault(address, deque(maxlen=TRIES))
    if len(tries) == TRIES and time.monotonic() - tries[0] < WITHIN:
        wrong = "Too many tries; wait a minute."
        return studio.page(request, "login.html", 429, wrong=wrong, name=name)
    # A name that is not known takes as long.
    right = is_right(password, known.get(name) or next(iter(known.values())))
    if not (right and name in known):
        tries.append(time.monotonic())
        while len(_tries) > MOST_ADDRESSES:
            del _tries[next(iter(_tries))]
        return studio.page(request, "login.html", 401, wrong="This is not the name or not the password.", name=name)
    guard.end(request.state.token)
    token, _ = guard.begin(name)
    return RedirectResponse("/", status_code=303, headers={"Set-Cookie": guard.cookie(token)})


@routes.post("/logout")
def log_out(request: Request) -> Response:
    """End the session; files that were brought and not kept go."""
    studio, guard = studio_of(request), guard_of(request)
    remove_old(studio.store, time.time(), user_of(request))
    guard.end(request.state.token)
    return Response(status_code=200, headers={"HX-Redirect": "/login", "Set-Cookie": guard.cookie("")})


@routes.get("/about")
def about(request: Request) -> HTMLResponse:
    """Versions, licences, and what the images are for."""
    packages = json.loads((STATIC / "vendor" / "licences.json").read_text(encoding="utf-8"))["packages"]
    return studio_of(request).page(request, "about.html", packages=packages)


def guard_of(request: Request) -> Guard:
    """What stands before the pages."""
    found: Guard = request.app.state.guard
    return found
