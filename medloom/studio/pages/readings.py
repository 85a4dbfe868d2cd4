"""Blind readings: images of patients and generated ones in one order, without their origin until it may be said."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.data.images import read_provenance
from medloom.studio.catalogue import ROW, row_name, table_and_line
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.readings import KEYS, ORIGIN, answered, planned
from medloom.studio.pages.cases import rows_of
from medloom.studio.pages.sources import row_image
from medloom.studio.results.folder import Result, ResultImage, read_result
from medloom.studio.results.opening import opened
from medloom.studio.results.readings import Origin, as_csv, counts_of, right_of
from medloom.studio.store.jobs import DONE, Job
from medloom.studio.store.readings import Answer, Plan, Reading
from medloom.studio.web.studio import Studio, studio_of, user_of
from medloom.studio.web.viewer import Asked, for_blinded, for_viewer

routes = APIRouter()
# How an image of a job is named, and jobs that can be chosen.
JOB = "job:"
MOST_JOBS = 20


@routes.get("/readings")
def show(request: Request) -> HTMLResponse:
    """The user's readings, and the form of another one."""
    studio = studio_of(request)
    return studio.page(request, "readings.html", **_values(studio, user_of(request), {}, {}))


@routes.post("/readings")
async def begin(request: Request) -> Response:
    """Draw the images, and open the first."""
    studio, user, sent = studio_of(request), user_of(request), await request.form()
    form = {name: str(value) for name, value in sent.items()}
    tables, jobs = ([str(value) for value in sent.getlist(name)] for name in ("table", "job"))
    try:
        plan = _plan(studio, request, form, tables, jobs)
    except FormError as error:
        values = _values(studio, user, {**form, "tables": tables, "jobs": jobs}, error.fields)
        return studio.page(request, "readings_form.html", 422, **values)
    reading = studio.store.readings.add(user, plan)
    return Response(headers={"HX-Redirect": f"/readings/{reading.id}"})


@routes.get("/readings/{identity}")
def resume(request: Request, identity: str) -> Response:
    """The first image without an answer, or what all answers say."""
    studio = studio_of(request)
    reading = studio.store.readings.get(user_of(request), identity)
    return RedirectResponse(_next(reading, studio.store.readings.answers(reading), -1), status_code=303)


@routes.get("/readings/{identity}/answers")
def summary(request: Request, identity: str) -> HTMLResponse:
    """What the answers say; where images are from is said when all of them are answered."""
    studio = studio_of(request)
    reading, answers = _opened(request, identity)
    over = len(answers) == len(reading.items)
    origins = _origins(studio, request, reading) if over else []
    return studio.page(
        request,
        "reading_summary.html",
        reading=reading,
        answers=answers,
        over=over,
        origins=origins,
        counts=counts_of(reading, answers, origins) if over else {},
        right=right_of(reading, answers, origins) if over else None,
    )


@routes.get("/readings/{identity}/answers.csv")
def download(request: Request, identity: str) -> Response:
    """The answers with the origin of each image, as CSV."""
    reading, answers = _opened(request, identity)
    if len(answers) < len(reading.items):
        raise UserError("the reading is not over; where its images are from is said when all of them are answered.")
    written = as_csv(answers, _origins(studio_of(request), request, reading))
    headers = {"Content-Disposition": 'attachment; filename="answers.csv"'}
    return Response(written, media_type="text/csv", headers=headers)


@routes.post("/readings/{identity}/remove")
def remove(request: Request, identity: str) -> Response:
    """Forget a reading and its answers."""
    reading, _ = _opened(request, identity)
    studio_of(request).store.readings.remove(reading)
    return HTMLResponse("")


@routes.get("/readings/{identity}/{place}")
def case(request: Request, identity: str, place: int) -> HTMLResponse:
    """An image without its origin, and the question."""
    studio = studio_of(request)
    reading, answers = _opened(request, identity)
    origin = _origin(studio, request, _item(reading, place))
    locked = answers.get(place)
    said = locked is not None and (reading.reveals or len(answers) == len(reading.items))
    shown = {"base": f"/readings/{identity}/{place}", "label": "image", "generated": said and origin.generated}
    study = {
        "id": f"image-{place + 1}",
        "modality": "blind reading",
        "arms": [shown],
        "layout": "1x1",
        "blind": not said,
    }
    return studio.page(
        request,
        "reading_case.html",
        reading=reading,
        place=place,
        locked=locked,
        origin=origin if said else None,
        keys=dict(zip(reading.choices, KEYS, strict=False)),
        done=len(answers),
        after=_next(reading, answers, place),
        study=study,
    )


@routes.post("/readings/{identity}/{place}")
async def answer(request: Request, identity: str, place: int) -> Response:
    """Lock an answer, and continue with the next image; where the origin is said at once, to that."""
    studio, form = studio_of(request), {name: str(value) for name, value in (await request.form()).items()}
    reading, _ = _opened(request, identity)
    _item(reading, place)
    try:
        given = answered(form, reading.choices)
    except FormError as error:
        return studio.page(request, "message.html", 400, sentence=str(error))
    studio.store.readings.lock(reading, place, given.answer, given.comment, given.seconds)
    here = f"/readings/{identity}/{place}"
    after = here if reading.reveals else _next(reading, studio.store.readings.answers(reading), place)
    return Response(headers={"HX-Redirect": after})


@routes.get("/readings/{identity}/{place}/{asked}")
def for_reader(request: Request, identity: str, place: int, asked: Asked) -> Response:
    """An image without its origin, for the viewer."""
    reading, _ = _opened(request, identity)
    image = _image(studio_of(request), request, _item(reading, place))
    return for_blinded(image, asked) if _is_mixed(reading) else for_viewer(image, asked)


def _plan(studio: Studio, request: Request, form: dict[str, str], tables: list[str], jobs: list[str]) -> Plan:
    names = list(studio.catalogue.manifests())
    rows = [(name, row) for name in tables if name in names for row in rows_of(studio, names.index(name))]
    real = [f"{ROW}{name}:{row.line}" for name, row in rows]
    generated = []
    for identity in jobs:
        job = studio.job_of(request, identity)
        images = read_result(studio.store.results(job.id)).images
        generated += [f"{JOB}{job.id}:{image.number}" for image in images]
    plan = planned(form, real, generated)
    # Whatever becomes of the table: an answer is about the row that was read.
    known = dict(zip(real, rows, strict=True))
    return replace(plan, items=tuple(row_name(*known[item]) if item in known else item for item in plan.items))


def _opened(request: Request, identity: str) -> tuple[Reading, dict[int, Answer]]:
    studio = studio_of(request)
    reading = studio.store.readings.get(user_of(request), identity)
    return reading, studio.store.readings.answers(reading)


def _is_mixed(reading: Reading) -> bool:
    """Whether images of patients and generated ones are in it."""
    return len({item.startswith(ROW) for item in reading.items}) > 1


def _item(reading: Reading, place: int) -> str:
    if not 0 <= place < len(reading.items):
        raise UserError("there is no such image in this reading.")
    return reading.items[place]


def _next(reading: Reading, answers: dict[int, Answer], place: int) -> str:
    """The address of the next image without an answer; that of the answers where there is none."""
    total = len(reading.items)
    order = [*range(place + 1, total), *range(place + 1)]
    following = next((k for k in order if k not in answers and k != place), None)
    return f"/readings/{reading.id}/{'answers' if following is None else following}"


def _image(studio: Studio, request: Request, item: str) -> Image:
    """An image of a reading."""
    if item.startswith(ROW):
        return row_image(studio, item, "image")
    result, found, _ = _made(studio, request, item)
    return opened(result, found)


def _origin(studio: Studio, request: Request, item: str) -> Origin:
    """Where an image of a reading is from."""
    if item.startswith(ROW):
        row, (table, _) = studio.catalogue.named_row(item), table_and_line(item)
        return Origin(False, f"{table}, row {row.line}", patient=f"patient {row.patient or row.line}")
    _, found, job = _made(studio, request, item)
    known = read_provenance(found.path)
    hashes = known.get("condition", ""), known.get("model", "")
    return Origin(True, f"job {job.number}, image {found.number}", found.seed, *hashes, item)


def _made(studio: Studio, request: Request, item: str) -> tuple[Result, ResultImage, Job]:
    """The image that a job made, with its result and the job."""
    identity, _, number = item.removeprefix(JOB).rpartition(":")
    job = studio.job_of(request, identity)
    result = read_result(studio.store.results(job.id))
    return result, result.image(int(number)), job


def _origins(studio: Studio, request: Request, reading: Reading) -> list[Origin]:
    return [_origin(studio, request, item) for item in reading.items]


def _values(studio: Studio, user: str, form: dict[str, Any], wrong: dict[str, str]) -> dict[str, Any]:
    """What the list and its form show."""
    readings = studio.store.readings.of(user)
    made = [job for job in studio.store.jobs.of(user) if job.state == DONE and job.command in ("generate", "edit")]
    return {
        "readings": [(reading, len(studio.store.readings.answers(reading))) for reading in readings],
        "tables": list(studio.catalogue.manifests()),
        "jobs": made[:MOST_JOBS],
        "form": form,
        "wrong": wrong,
        "usual": ORIGIN,
    }
