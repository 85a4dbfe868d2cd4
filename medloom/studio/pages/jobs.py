"""Jobs: how far one is, what it made, and what can be done with it."""

import asyncio
import shlex
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse

from medloom.core.errors import UserError
from medloom.data.images import read_provenance
from medloom.studio.forms.settings import settings_of
from medloom.studio.pages.reading import arm_of, differences_of, edit_values, prior_of, true_image, whatif_values
from medloom.studio.results.download import AS_MADE, downloads_of, write_zip
from medloom.studio.results.folder import read_result
from medloom.studio.results.opening import opened
from medloom.studio.results.pictures import picture_of
from medloom.studio.results.saving import save_result
from medloom.studio.store.jobs import Job
from medloom.studio.web.studio import Studio, studio_of
from medloom.studio.web.viewer import Asked, for_viewer

routes = APIRouter()
# Seconds between two looks at a job whose page is open, and pixels of a thumbnail.
EVERY, THUMBNAIL = 0.2, 320
# Images that the viewer holds at a time.
MOST_ARMS = 8


@routes.get("/jobs/{identity}")
def show(request: Request, identity: str) -> HTMLResponse:
    """A job by itself."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    return studio.page(request, "job_page.html", job=job, **job_values(studio, job))


@routes.get("/jobs/{identity}/events")
async def events(request: Request, identity: str) -> StreamingResponse:
    """How far a job is, again whenever that changes, until it is over."""
    studio = studio_of(request)
    studio.job_of(request, identity)

    async def changes() -> AsyncIterator[str]:
        before = ""
        while not await request.is_disconnected():
            job = studio.store.jobs.get(identity)
            drawn = await run_in_threadpool(_drawn, studio, request, job)
            if job.is_over:
                yield _event("over", drawn)
                return
            if drawn != before:
                yield _event("status", drawn)
            before = drawn
            await asyncio.sleep(EVERY)

    return StreamingResponse(changes(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@routes.post("/jobs/{identity}/cancel")
def cancel(request: Request, identity: str) -> HTMLResponse:
    """End a job."""
    studio = studio_of(request)
    studio.store.jobs.cancel(studio.job_of(request, identity))
    job = studio.store.jobs.get(identity)
    return studio.page(request, "job.html", job=job, **job_values(studio, job))


@routes.post("/jobs/{identity}/remove")
def remove(request: Request, identity: str) -> Response:
    """Forget a job that is over, with its results."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    if studio.store.readings.with_images_of(job.id):
        sentence = "A blind reading has images of this job: remove the reading first."
        answer = studio.page(request, "message.html", 400, sentence=sentence)
        # The job stays in its list, and the sentence comes to it.
        answer.headers["HX-Reswap"] = "beforeend"
        return answer
    studio.store.jobs.remove(job)
    for folder in (studio.store.results(job.id), studio.store.previews(job.id), studio.store.priors(job.id)):
        shutil.rmtree(folder, ignore_errors=True)
    return HTMLResponse("")


@routes.get("/jobs/{identity}/images/{number}")
def show_image(request: Request, identity: str, number: int) -> HTMLResponse:
    """An image in the viewer, next to others of its job."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    result = read_result(studio.store.results(job.id))
    image = result.image(number)
    order = [other.number for other in result.images]
    place = order.index(number)
    before, after = (order[k] if 0 <= k < len(order) else None for k in (place - 1, place + 1))
    shown = [image, *(other for other in result.images if other.number != number)][:MOST_ARMS]
    study = {
        "id": f"job-{job.number}",
        "modality": image.modality,
        "arms": [arm_of(job, other) for other in shown],
        "layout": "1x1" if len(shown) == 1 else "1x2",
    }
    return studio.page(request, "image.html", job=job, image=image, before=before, after=after, study=study)


@routes.get("/jobs/{identity}/images/{number}/picture.png")
def picture(
    request: Request,
    identity: str,
    number: int,
    low: float | None = None,
    high: float | None = None,
    plane: str | None = None,
    level: int | None = None,
    side: int = THUMBNAIL,
) -> Response:
    """An image as a picture."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    result = read_result(studio.store.results(job.id))
    image = opened(result, result.image(number))
    window = None if low is None or high is None else (low, high)
    made = picture_of(image, window, plane, level, side or None)
    return Response(made, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@routes.get("/jobs/{identity}/images/{number}/{asked}")
def image_for_viewer(request: Request, identity: str, number: int, asked: Asked) -> Response:
    """A generated image, for the viewer."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    result = read_result(studio.store.results(job.id))
    found = result.image(number)
    known = read_provenance(found.path)
    further = {"seed": found.seed, "condition": known.get("condition", ""), "model": known.get("model", "")}
    return for_viewer(opened(result, found), asked, **further)


@routes.get("/jobs/{identity}/previews/{name}")
def preview(request: Request, identity: str, name: str) -> Response:
    """What an image looked like on its way."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    return _file(studio.store.previews(job.id), name)


@routes.get("/jobs/{identity}/files/{name}")
def file(request: Request, identity: str, name: str) -> Response:
    """A file of the result."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    return _file(studio.store.results(job.id), name)


@routes.get("/jobs/{identity}/download")
def download(request: Request, identity: str, form: str = AS_MADE) -> Response:
    """The images with their manifest as a ZIP file."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    with NamedTemporaryFile(suffix=".zip", dir=studio.store.folder, delete=False) as stream:
        target = Path(stream.name)
    try:
        write_zip(read_result(studio.store.results(job.id)), form, target)
    except BaseException:
        target.unlink()
        raise
    name = f"SYNTHETIC-job-{job.number}-{form.replace(' ', '-')}.zip"
    return FileResponse(target, filename=name, background=BackgroundTask(target.unlink))


@routes.post("/jobs/{identity}/save")
async def save(request: Request, identity: str) -> HTMLResponse:
    """Copy the result to a folder of a name, below the one that the studio was started with."""
    studio, name = studio_of(request), str((await request.form()).get("name", "")).strip()
    job = studio.job_of(request, identity)
    if studio.settings.saved is None:
        raise UserError("start the studio with --save-under and a folder to save results by name.")
    await run_in_threadpool(save_result, read_result(studio.store.results(job.id)), studio.settings.saved, name)
    return studio.page(request, "saved.html", name=name, root=studio.settings.saved.name)


@routes.get("/jobs/{identity}/read")
def read(request: Request, identity: str, seed: str = "") -> HTMLResponse:
    """A what-if or an edit in the viewer: arms of one seed, and their differences."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    result = read_result(studio.store.results(job.id))
    if not result.images:
        raise UserError("the job has not made an image yet.")
    values = edit_values(studio, job, result) if job.command == "edit" else whatif_values(studio, job, result, seed)
    return studio.page(request, "read.html", job=job, **values)


@routes.get("/jobs/{identity}/prior/{asked}")
def prior_for_viewer(request: Request, identity: str, asked: Asked) -> Response:
    """The prior image of an edit, as the editor saw it, for the viewer."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    prior = prior_of(studio, job, read_result(studio.store.results(job.id)))
    if prior is None:
        raise UserError("the prior image of this job is not there.")
    return for_viewer(prior, asked)


@routes.get("/jobs/{identity}/truth/{name}/{asked}")
def truth_for_viewer(request: Request, identity: str, name: str, asked: Asked) -> Response:
    """A true image of a virtual patient, or a true difference, for the viewer."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    return for_viewer(true_image(job, read_result(studio.store.results(job.id)), name), asked)


@routes.get("/jobs/{identity}/differences/{place}/{asked}")
def difference_for_viewer(request: Request, identity: str, place: int, asked: Asked) -> Response:
    """The mean difference of an arm to the factual one, or that of an edit to its prior image, for the viewer."""
    studio = studio_of(request)
    job = studio.job_of(request, identity)
    maps = differences_of(studio, job, read_result(studio.store.results(job.id)))
    if not 0 <= place < len(maps):
        raise UserError("there is no such arm in this result.")
    return for_viewer(maps[place], asked)


def job_values(studio: Studio, job: Job) -> dict[str, Any]:
    """What a job's page shows in addition to the job."""
    result = read_result(studio.store.results(job.id))
    folder = studio.store.previews(job.id)
    return {
        "result": result,
        "place": 0 if job.is_over else studio.store.jobs.place(job),
        # What is being written has a name with a dot.
        "previews": sorted(path.name for path in folder.glob("[0-9]*.png")),
        "command": shlex.join(["medloom", *job.command.split(), *job.words, "--out=images"]),
        "python": python_of(job),
        "saves": studio.settings.saved is not None,
        "settings": settings_of(job.form),
        "downloads": downloads_of(result) if job.is_over else [],
    }


def python_of(job: Job) -> str:
    """The call from Python that does what a job does."""
    given: dict[str, object] = {}
    for word in job.words:
        name, equals, value = word.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        # An option that is given several times is a list.
        if key in given:
            known = given[key]
            given[key] = [*(known if isinstance(known, list) else [known]), value]
        else:
            given[key] = value if equals else True
    lines = "".join(f"    {name}={value!r},\n" for name, value in given.items())
    return f'import medloom\n\nmedloom.run(\n    "{job.command}",\n{lines}    out="images",\n)'


def _file(folder: Path, name: str) -> Response:
    """A file directly in a folder, by its name.

    Raises:
        UserError: there is none.
    """
    known = {path.name: path for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    if name not in known:
        raise UserError(f"there is no file {name!r} in this result.")
    return FileResponse(known[name])


def _drawn(studio: Studio, request: Request, job: Job) -> str:
    """How far a job is, or what it made."""
    template = "job_inner.html" if job.is_over else "job_status.html"
    return studio.draw(request, template, job=job, **job_values(studio, job))


def _event(name: str, html: str) -> str:
    """A server-sent event."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: {name}\n{lines}\n"
