"""History: all jobs of a user, two of them next to each other, files that were brought, and where an image is from."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.core.files import hash_file
from medloom.generators.generated_images import FACTUAL
from medloom.studio.forms.settings import settings_of
from medloom.studio.pages.reading import arm_of
from medloom.studio.results.folder import ResultImage, read_result
from medloom.studio.store.jobs import Job
from medloom.studio.uploads.arrival import IMAGE, MASK
from medloom.studio.uploads.receiving import remove_one
from medloom.studio.web.studio import Studio, studio_of, user_of

routes = APIRouter()
# Jobs of one page, and images of each that are compared.
TOGETHER, COMPARED = 50, 4
BLOCK = 1 << 20


@routes.get("/history")
def show(request: Request, before: int | None = None) -> HTMLResponse:
    """The user's jobs, the newest first."""
    studio, user = studio_of(request), user_of(request)
    jobs = studio.store.jobs.of(user, TOGETHER, before)
    shown = [(job, read_result(studio.store.results(job.id)).images[:4]) for job in jobs]
    # A region that was drawn belongs to its edit.
    files = [upload for upload in studio.store.uploads.of(user) if upload.kind in (IMAGE, MASK)]
    return studio.page(request, "history.html", jobs=shown, more=len(jobs) == TOGETHER, files=files)


@routes.get("/compare")
def compare(request: Request) -> HTMLResponse:
    """Two results next to each other: what differs in their settings, and their images in pairs."""
    studio = studio_of(request)
    named = list(dict.fromkeys(request.query_params.getlist("job")))
    if len(named) != 2:
        sentence = f"Choose two jobs to compare, not {len(named)}."
        return studio.page(request, "message_page.html", 400, sentence=sentence)
    jobs = [studio.job_of(request, identity) for identity in named]
    images = [read_result(studio.store.results(job.id)).images for job in jobs]
    lacking = next((job for job, own in zip(jobs, images, strict=True) if not own), None)
    if lacking is not None:
        raise UserError(f"job {lacking.number} has made no image yet: compare it later.")
    return studio.page(
        request,
        "compare.html",
        jobs=jobs,
        differing=differing(*jobs),
        study={
            "id": f"jobs-{jobs[0].number}-{jobs[1].number}",
            "modality": images[0][0].modality,
            "arms": pairs_of(jobs, images),
            "layout": "1x2",
        },
    )


@routes.post("/uploads/find")
async def find(request: Request, file: UploadFile) -> HTMLResponse:
    """Which job of the user made a file."""
    studio, digest, size = studio_of(request), hashlib.sha256(), 0
    while block := await file.read(BLOCK):
        digest.update(block)
        size += len(block)
    found = await run_in_threadpool(_made_by, studio, user_of(request), size, digest.hexdigest()[:16])
    return studio.page(request, "found.html", found=found, name=file.filename or "this file")


@routes.post("/uploads/{identity}/keep")
def keep(request: Request, identity: str) -> HTMLResponse:
    """Keep a file until its user removes it, or no longer."""
    studio, user = studio_of(request), user_of(request)
    studio.store.uploads.keep(user, identity, not studio.store.uploads.get(user, identity).kept)
    return studio.page(request, "file.html", file=studio.store.uploads.get(user, identity))


@routes.post("/uploads/{identity}/remove")
def remove(request: Request, identity: str) -> Response:
    """Remove a file now."""
    remove_one(studio_of(request).store, user_of(request), identity)
    return HTMLResponse("")


def differing(first: Job, second: Job) -> list[tuple[str, str, str]]:
    """The settings in which two jobs differ: name, the first one's value, the second one's."""
    one, other = (_plain(job) for job in (first, second))
    names = list(dict.fromkeys([*one, *other]))
    return [
        (name, one.get(name, ""), other.get(name, "")) for name in names if one.get(name, "") != other.get(name, "")
    ]


def pairs_of(jobs: list[Job], images: list[tuple[ResultImage, ...]]) -> list[dict[str, Any]]:
    """The images of two jobs in pairs as the viewer takes them; of the same seeds, where there are such."""
    known = [_by_seed_and_arm(own) for own in images]
    common = [key for key in known[0] if key in known[1]]
    paired = [[own[key] for key in common] for own in known] if common else images
    pairs = zip(*(own[:COMPARED] for own in paired), strict=False)
    return [
        arm_of(job, image, f"job {job.number}, {_arm_in_words(job, image)}, seed {image.seed}")
        for pair in pairs
        for job, image in zip(jobs, pair, strict=True)
    ]


def _by_seed_and_arm(images: Sequence[ResultImage]) -> dict[tuple[str, int], ResultImage]:
    """The images by their seed and the place of their arm: the first changes of two what-ifs belong together."""
    places = {arm: place for place, arm in enumerate(dict.fromkeys([FACTUAL, *(image.arm for image in images)]))}
    return {(image.seed, places[image.arm]): image for image in images}


def _arm_in_words(job: Job, image: ResultImage) -> str:
    return image.arm if job.command == "whatif" else f"image {image.number}"


def _plain(job: Job) -> Mapping[str, str]:
    return {"command": job.command, **{own.label: own.value for own in settings_of(job.form)}}


def _made_by(studio: Studio, user: str, size: int, digest: str) -> tuple[Job, ResultImage] | None:
    """The job whose image has these bytes, looked for from the newest one back."""
    before: int | None = None
    while jobs := studio.store.jobs.of(user, TOGETHER, before):
        for job in jobs:
            for image in read_result(studio.store.results(job.id)).images:
                if image.path.stat().st_size == size and hash_file(image.path) == digest:
                    return job, image
        before = jobs[-1].number
    return None
