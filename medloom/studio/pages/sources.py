"""Images that are not generated here: those of the tables' rows, and those that users bring."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.lookup import look_up
from medloom.core.mask_spec import MaskSpec
from medloom.data.images import read_header
from medloom.data.masks import by_names, read_named_mask, unknown_labels
from medloom.data.units import unit_for
from medloom.studio.catalogue import ROW, part_of, row_name, table_and_line
from medloom.studio.forms.reading import FormError
from medloom.studio.model_facts import ModelFacts
from medloom.studio.results.pictures import open_image, picture_of, window_of_labels
from medloom.studio.store.uploads import Upload
from medloom.studio.uploads.arrival import not_kept
from medloom.studio.uploads.receiving import KINDS, incoming_file, receive
from medloom.studio.web.studio import Studio, studio_of, user_of
from medloom.studio.web.viewer import Asked, for_viewer

routes = APIRouter()
# Rows that a list shows, pixels of a thumbnail, and bytes that are written at a time.
MOST_ROWS, THUMBNAIL, BLOCK = 200, 160, 1 << 20
# Parts of a row that are images.
PARTS = ("image", "prior", "mask")
# Axes of a volume.
VOLUME = 3


@dataclass(frozen=True)
class Choice:
    """An image that can be chosen in a form.

    Attributes:
        value: of the form.
        label: for people; nothing in it identifies a patient.
        address: of its picture.
    """

    value: str
    label: str
    address: str


@routes.get("/cases/{table}/{line}/{part}/picture.png")
def case_picture(
    request: Request,
    table: int,
    line: int,
    part: str,
    low: float | None = None,
    high: float | None = None,
    plane: str | None = None,
    level: int | None = None,
    side: int = THUMBNAIL,
) -> Response:
    """An image of a row as a picture; it is a patient's, and not marked."""
    image = _case_image(studio_of(request), table, line, part)
    window = None if low is None or high is None else (low, high)
    if part == "mask":
        window = window_of_labels(image)
    return Response(picture_of(image, window, plane, level, side or None, synthetic=False), media_type="image/png")


@routes.get("/cases/{table}/{line}/{part}/{asked}")
def case_for_viewer(request: Request, table: int, line: int, part: str, asked: Asked) -> Response:
    """An image of a row, for the viewer."""
    return for_viewer(_case_image(studio_of(request), table, line, part), asked)


@routes.get("/uploads/{identity}/picture.png")
def upload_picture(request: Request, identity: str, level: int | None = None, side: int = THUMBNAIL) -> Response:
    """A file that was brought, as a picture."""
    studio, user = studio_of(request), user_of(request)
    image = _upload_image(studio, user, identity)
    window = window_of_labels(image) if studio.store.uploads.get(user, identity).kind != "image" else None
    return Response(picture_of(image, window, None, level, side or None, synthetic=False), media_type="image/png")


@routes.get("/uploads/{identity}/{asked}")
def upload_for_viewer(request: Request, identity: str, asked: Asked) -> Response:
    """A file that was brought, for the viewer."""
    return for_viewer(_upload_image(studio_of(request), user_of(request), identity), asked)


@routes.post("/uploads/{kind}")
async def bring(request: Request, kind: str) -> HTMLResponse:
    """Take a file: an image or a mask; the answer is its choice in a form."""
    studio = studio_of(request)
    look_up(dict.fromkeys(KINDS), kind, "kind of file")
    try:
        async with request.form(max_files=1) as form:
            upload = await _received(studio, user_of(request), form.get("file"), kind)
    except OSError as error:
        raise UserError(not_kept(error)) from error
    choice = Choice(upload.id, upload.name, f"/uploads/{upload.id}/picture.png")
    return studio.page(request, "choice.html", choice=choice, field="prior" if kind == "image" else "mask", chosen=True)


async def _received(studio: Studio, user: str, file: object, kind: str) -> Upload:
    """A file of a form, read and kept.

    Raises:
        UserError: it is none, or cannot be used.
    """
    if not isinstance(file, UploadFile):
        raise UserError("no file has come: choose one, and bring it again.")
    name = file.filename or "image"
    incoming = incoming_file(studio.store, user, name)
    try:
        with incoming.open("wb") as stream:
            while block := await file.read(BLOCK):
                stream.write(block)
        return await run_sync(receive, studio.store, user, incoming, name, kind, limiter=studio.reading)
    finally:
        incoming.unlink(missing_ok=True)


def choices(studio: Studio, user: str, part: str, modality: str | None = None, chosen: str = "") -> list[Choice]:
    """The images of rows that can be chosen, after the files that the user brought.

    Args:
        studio: with its tables.
        user: whose files.
        part: image, prior or mask.
        modality: of the rows; None for all.
        chosen: value of a form, whose row is among them wherever it is in its table.
    """
    kind = "mask" if part == "mask" else "image"
    found = [
        Choice(upload.id, upload.name, f"/uploads/{upload.id}/picture.png")
        for upload in studio.store.uploads.of(user)
        if upload.kind == kind
    ]
    for number, name in enumerate(studio.catalogue.manifests()):
        try:
            shown = list(studio.catalogue.rows(name, part, modality)[:MOST_ROWS])
        except (UserError, OSError):
            continue
        with suppress(UserError):
            wanted = studio.catalogue.named_row(chosen) if table_and_line(chosen)[0] == name else None
            if wanted is not None and wanted not in shown and part_of(wanted, part) is not None:
                shown.insert(0, wanted)
        found += [
            Choice(row_name(name, row), f"{name}, row {row.line}", f"/cases/{number}/{row.line}/{part}/picture.png")
            for row in shown
        ]
    return found


def modality_of(facts: ModelFacts | None, form: Mapping[str, str]) -> str | None:
    """The modality of a form, or the model's first one where the form was filled in for another model."""
    if facts is None:
        return None
    asked = form.get("modality", "")
    return asked if asked in facts.units else next(iter(facts.units))


def gone(chosen: str, among: Sequence[Choice]) -> bool:
    """Whether a form names an image that is not there any more."""
    there = {choice.value for choice in among}
    # In an address that somebody wrote, a row may have no mark.
    return bool(chosen) and chosen not in there | {value.partition("@")[0] for value in there}


def chosen_file(studio: Studio, user: str, chosen: str, part: str, field: str, dims: int) -> Path:
    """The file that a form's value names.

    Args:
        studio: with its tables.
        user: whose files.
        chosen: value of the form.
        part: image, prior or mask.
        field: of the form.
        dims: axes of the model's images.

    Raises:
        FormError: it has not as many axes.
        UserError: there is none.
    """
    if not chosen.startswith(ROW):
        upload = studio.store.uploads.get(user, chosen)
        _require_axes(upload.facts["size"], dims, field)
        return studio.store.folder / upload.file
    file = part_of(studio.catalogue.named_row(chosen), part)
    if file is None:
        raise UserError(f"the row has no {part} any more; choose another one.")
    if part == "prior":
        # Of a mask the header does not say it: frames of segments are one volume.
        _require_axes(read_header(file).size, dims, field)
    return file


def chosen_mask(studio: Studio, user: str, chosen: str, facts: ModelFacts) -> Path:
    """The file of the mask that a form's value names, which the model can be given.

    Raises:
        FormError: it has other axes, or labels that the model does not know.
        UserError: there is none.
    """
    file = chosen_file(studio, user, chosen, "mask", "mask", facts.dims)
    masks = MaskSpec({int(label): name for label, name in facts.mask_classes.items()})
    mask = by_names(*read_named_mask(file), file, masks)
    _require_axes(mask.size, facts.dims, "mask")
    if unknown := unknown_labels(mask.pixels, masks):
        raise FormError({"mask": f"This mask has the label {unknown[0]}, and the model knows {labels_of(facts)}."})
    return file


def labels_of(facts: ModelFacts) -> str:
    """The labels that a model knows, in words."""
    return ", ".join(
        label if name == f"label {label}" else f"{label} {name}" for label, name in facts.mask_classes.items()
    )


def row_image(studio: Studio, chosen: str, part: str) -> Image:
    """An image of the row that a form's value names.

    Raises:
        UserError: there is none.
    """
    row, manifest = studio.catalogue.named_row(chosen), studio.catalogue.manifest(table_and_line(chosen)[0])
    file = part_of(row, part)
    if file is None:
        raise UserError(f"there is no {part} in row {row.line}.")
    return open_image(file, unit_for(manifest.units, row.condition.modality, file))


def _require_axes(size: Sequence[int], dims: int, field: str) -> None:
    if len(size) != dims:
        what = "volumes" if dims == VOLUME else "2-D images"
        own = " x ".join(map(str, size))
        raise FormError({field: f"This is an image of {own}, and the model has {what}: choose another image or model."})


def _case_image(studio: Studio, table: int, line: int, part: str) -> Image:
    look_up(dict.fromkeys(PARTS), part, "part of a row")
    names = list(studio.catalogue.manifests())
    if not 0 <= table < len(names):
        raise UserError("there is no such table.")
    return row_image(studio, f"{ROW}{names[table]}:{line}", part)


def _upload_image(studio: Studio, user: str, identity: str) -> Image:
    return open_image(studio.store.folder / studio.store.uploads.get(user, identity).file)
