"""Runs: loss curves, samples, model cards, trainings that run, and reports."""

import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.generators.run_folder import CARD, RunFolder, is_finished
from medloom.studio.results.curves import BELOW, HEIGHT, LEFT, WIDTH, charts_of, read_metrics
from medloom.studio.web.studio import studio_of

routes = APIRouter()
REPORT = "report.html"
# A page that was written by medloom, and runs no script.
REPORT_POLICY = "default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
SAMPLES = 12
# Seconds since the last line of a training's log until it is said to rest.
RESTING = 120.0


@routes.get("/runs")
def show(request: Request) -> HTMLResponse:
    """All runs; of those that are chosen, the curves together and the samples next to each other."""
    studio = studio_of(request)
    known = {model.name: model.path for model in studio.catalogue.models()}
    names = [name for name in request.query_params.getlist("run") if name in known] or list(known)[:1]
    chosen = {name: known[name] for name in names[:4]}
    return studio.page(
        request,
        "runs.html",
        runs=[(name, state_of(path)) for name, path in known.items()],
        chosen=[(name, described(path)) for name, path in chosen.items()],
        charts=charts_of(chosen),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "below": BELOW},
        reports=list(studio.catalogue.reports()),
        numbers={name: number for number, name in enumerate(known)},
    )


@routes.get("/runs/{number}/samples/{name}")
def sample(request: Request, number: int, name: str) -> Response:
    """A grid of samples of a run."""
    paths = studio_of(request).catalogue.paths()
    if not 0 <= number < len(paths):
        raise UserError("there is no such run.")
    known = {path.name: path for path in samples_of(paths[number])}
    return FileResponse(look_up(known, name, "sample"))


@routes.get("/reports/{name:path}")
def report(request: Request, name: str) -> Response:
    """A report, in place."""
    folder = look_up(studio_of(request).catalogue.reports(), name, "report")
    return FileResponse(folder / REPORT, headers={"Content-Security-Policy": REPORT_POLICY})


def state_of(path: Path) -> str:
    """Whether a run is finished, training or resting, in words."""
    try:
        run = RunFolder(path)
        steps = int(run.description()["identity"]["options"]["loop"]["steps"])
    except (UserError, KeyError, ValueError) as error:
        return f"cannot be read: {error}"
    if is_finished(path, steps):
        return f"finished, {steps} steps"
    log = path / "logs" / "metrics.csv"
    done = max((own[-1][0] for own in read_metrics(log).values()), default=0)
    active = log.is_file() and time.time() - log.stat().st_mtime < RESTING
    return f"{'training' if active else 'not finished'}, step {done} of {steps}"


def described(path: Path) -> dict[str, Any]:
    """The card, the samples and the state of a run."""
    card = path / CARD
    return {
        "state": state_of(path),
        "card": card.read_text(encoding="utf-8") if card.is_file() else "",
        "samples": [sample.name for sample in samples_of(path)],
    }


def samples_of(path: Path) -> list[Path]:
    """The newest grids of samples of a run, the oldest of them first."""
    return sorted((path / "samples").glob("*.png"))[-SAMPLES:]
