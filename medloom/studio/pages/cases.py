"""Cases: the rows of the tables as a list, and each in the viewer."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from medloom.core.errors import UserError
from medloom.core.types import Sample
from medloom.data.images import read_provenance
from medloom.studio.catalogue import part_of
from medloom.studio.forms.whatif import as_recorded
from medloom.studio.web.studio import Studio, studio_of

routes = APIRouter()
# Cases of one page of the list.
TOGETHER = 60
LABELS = {"prior": "prior image", "image": "image"}


@routes.get("/cases")
def show(request: Request, table: int = 0, start: int = 0) -> HTMLResponse:
    """The cases of a table."""
    studio = studio_of(request)
    names = list(studio.catalogue.manifests())
    rows = rows_of(studio, table) if names else []
    start = max(0, min(start, len(rows) - 1))
    return studio.page(
        request,
        "cases.html",
        tables=names,
        table=table,
        rows=list(enumerate(rows[start : start + TOGETHER], start)),
        start=start,
        together=TOGETHER,
        total=len(rows),
    )


@routes.get("/cases/{table}/{line}/read")
def read(request: Request, table: int, line: int) -> HTMLResponse:
    """A case in the viewer: its prior image, where there is one, and its image."""
    studio = studio_of(request)
    rows = rows_of(studio, table)
    place = next((place for place, row in enumerate(rows) if row.line == line), None)
    if place is None:
        raise UserError("there is no such case.")
    row = rows[place]
    before, after = (rows[k].line if 0 <= k < len(rows) else None for k in (place - 1, place + 1))
    return studio.page(
        request,
        "case.html",
        table=table,
        table_name=list(studio.catalogue.manifests())[table],
        place=place,
        total=len(rows),
        row=row,
        before=before,
        after=after,
        known=known_cells(studio, row),
        study=study_of(table, Path(list(studio.catalogue.manifests())[table]).stem, place, row),
    )


def rows_of(studio: Studio, table: int) -> Sequence[Sample]:
    """The rows of a table that have an image.

    Raises:
        UserError: there is no such table, or it cannot be used.
    """
    names = list(studio.catalogue.manifests())
    if not 0 <= table < len(names):
        raise UserError("there is no such table; start the studio with --data.")
    return studio.catalogue.rows(names[table], "image")


def known_cells(studio: Studio, row: Sample) -> dict[str, str]:
    """The cells of a case in the columns that models are conditioned on; others may name a patient."""
    models = [model.facts for model in studio.catalogue.models() if model.facts]
    columns = {column.name for facts in models for column in facts.attributes}
    return {
        name: as_recorded(cell) for name, cell in row.condition.table.items() if name in columns and cell is not None
    }


def study_of(table: int, name: str, place: int, row: Sample) -> dict[str, Any]:
    """A case as the viewer takes it."""
    parts = ["prior", "image"] if row.condition.prior_file is not None else ["image"]
    arms = [
        {
            "base": f"/cases/{table}/{row.line}/{part}",
            "label": LABELS[part],
            "generated": _is_generated(row, part),
            "support": "",
        }
        for part in parts
    ]
    return {
        "id": f"{name}-case-{place + 1}",
        "modality": row.condition.modality or "",
        "arms": arms,
        "layout": "1x2" if len(arms) > 1 else "1x1",
    }


def _is_generated(row: Sample, part: str) -> bool:
    """Whether the file of a row says that it is no patient's: that of a virtual patient, or of a generated set."""
    file = part_of(row, part)
    # Formats that cannot state it are those of other programs.
    with suppress(UserError):
        return file is not None and read_provenance(file).get("SYNTHETIC") == "YES"
    return False
