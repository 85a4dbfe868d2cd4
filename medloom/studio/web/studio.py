"""The studio as its pages see it: settings, store, catalogue, and how a page is drawn."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

import medloom
from medloom.core.progress import duration
from medloom.studio.catalogue import ROW, Catalogue, source
from medloom.studio.store.jobs import Job
from medloom.studio.store.store import Store
from medloom.studio.web.ratings import Ratings

HERE = Path(__file__).resolve().parents[1]
STATIC = HERE / "static"
# Files that are brought and read at a time: each may need much memory.
READ_AT_ONCE = 2
# Jobs among which one that runs is looked for.
RECENT = 10
# Pages of the navigation: title -> address.
PAGES = {
    "Generate": "/generate",
    "Edit": "/edit",
    "What-if": "/whatif",
    "Cases": "/cases",
    "Blind reading": "/readings",
    "Phantom": "/phantom",
    "Runs": "/runs",
    "History": "/history",
    "About": "/about",
}


@dataclass(frozen=True)
class Settings:
    """How a studio is served.

    Attributes:
        folder: of jobs, results and files that users bring.
        host: address that it listens at.
        port: of the address.
        public: address of a proxy before it, or None.
        passwords: user -> hashed password; empty where nobody has to log in.
        models: run folders.
        manifests: tables of images.
        reports: folders of reports.
        device: auto, cpu or cuda.
        largest: bytes of a file that is brought.
        hours: until files that were brought are removed.
        saved: folder below which results can be saved under a name; None for none.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8765
    public: str | None = None
    passwords: Mapping[str, str] = field(default_factory=dict)
    models: tuple[Path, ...] = ()
    manifests: tuple[Path, ...] = ()
    reports: tuple[Path, ...] = ()
    device: str = "auto"
    largest: int = 200 * 2**20
    hours: float = 24.0
    saved: Path | None = None


class Studio:
    """What every page has at hand.

    Attributes:
        settings: how it is served.
        store: jobs, sessions and files.
        catalogue: models and tables.
        reading: lets through as many files that are brought as are read at a time.
        ratings: that it has, or None.

    Args:
        settings: how it is served.
        ratings: that it has, or None.
    """

    def __init__(self, settings: Settings, ratings: Ratings | None = None) -> None:
        self.settings = settings
        self.ratings = ratings
        self.store = Store(settings.folder)
        self.catalogue = Catalogue(self.store, settings.models, settings.manifests, settings.reports)
        self.reading = CapacityLimiter(READ_AT_ONCE)
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["duration"] = duration
        self._templates.filters["moment"] = moment
        self._templates.filters["shown"] = shown

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page, or a part of one, for the user of a request."""
        return HTMLResponse(self.draw(request, template, **values), status_code=status)

    def draw(self, request: Request, template: str, **values: Any) -> str:
        """The HTML of a template."""
        known = {
            "pages": self._pages(),
            "here": request.url.path,
            "user": user_of(request),
            "secret": request.state.secret,
            "version": medloom.__version__,
            "logs_in": bool(self.settings.passwords),
            "largest": self.settings.largest,
            "blind": self.ratings is not None and self.ratings.blind,
        }
        return self._templates.get_template(template).render(**known, **values)

    def _pages(self) -> dict[str, str]:
        """The pages of the navigation: title -> address."""
        if self.ratings is None:
            return PAGES
        return {"Ratings": "/rate", **({"About": PAGES["About"]} if self.ratings.blind else PAGES)}

    def job_of(self, request: Request, identity: str) -> Job:
        """A job of the user.

        Raises:
            UserError: there is none of that name, or it is another user's.
        """
        job = self.store.jobs.get(identity)
        if job.user != user_of(request):
            # As of one that does not exist: names of jobs say nothing.
            return self.store.jobs.get("")
        return job

    def running(self, request: Request, command: str) -> Job | None:
        """The user's newest job of a command that waits or runs, where a page is opened as it is; else None."""
        if request.query_params:
            return None
        jobs = self.store.jobs.of(user_of(request), RECENT)
        return next((job for job in jobs if job.command == command and not job.is_over), None)


def user_of(request: Request) -> str:
    """Whose request it is."""
    return str(request.state.user)


def studio_of(request: Request) -> Studio:
    """The studio that answers a request."""
    found: Studio = request.app.state.studio
    return found


def moment(seconds: float) -> str:
    """When something was, for people, by the clock of the studio's computer: `2026-11-05 14:02`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def shown(value: str) -> str:
    """A value of a form for people: a row by its table and line.

    >>> shown("row:a/t.csv:12@0f3c"), shown("7")
    ('a/t.csv, row 12', '7')
    """
    return source(value) if value.startswith(ROW) else value
