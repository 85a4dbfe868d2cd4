"""Phantom: virtual patients whose true counterfactuals are known, to learn what a what-if is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.phantom.causal import MODEL, OBSERVED, descendants
from medloom.studio.catalogue import ROW, table_and_line
from medloom.studio.forms.whatif import SET, WAS
from medloom.studio.pages.sources import Choice, choices
from medloom.studio.results.contrast import reach_of
from medloom.studio.results.truth import VirtualCase, case_of, described_case
from medloom.studio.web.studio import Studio, studio_of, user_of
from medloom.studio.web.viewer import Asked, for_viewer

routes = APIRouter()
# What follows from a change changes with it, or is held.
TOTAL, DIRECT = "total", "direct"
EFFECTS = {TOTAL: "total: what follows from the change changes too", DIRECT: "direct: what would follow is held"}
Shown = Literal["recorded", "changed", "difference"]
LABELS: Mapping[Shown, str] = {
    "recorded": "truth, as recorded",
    "changed": "truth, changed",
    "difference": "true difference",
}


@routes.get("/phantom")
def show(request: Request) -> HTMLResponse:
    """A virtual patient, what is changed of it, and the true images."""
    studio, form = studio_of(request), dict(request.query_params)
    cases = virtual_cases(studio, user_of(request))
    chosen = form.get("case") or (cases[0].value if cases else "")
    values: dict[str, Any] = {"cases": cases, "case": chosen, "form": form, "effects": EFFECTS, "model": MODEL}
    values |= {"before": {}, "after": {}, "study": None, "wrong": "", "question": ""}
    if chosen:
        case = _case(studio, chosen)
        before, _ = case.values({})
        changes = _changes(form, before)
        try:
            _, after = case.values(changes, _held(changes, form))
            values |= {"after": after, "study": _study(case, chosen, changes, form)}
        except UserError as error:
            values["wrong"] = str(error)
        # A model does not know what follows: it is asked for all that is different then.
        asked = changes | {
            name: spelled(value)
            for name, value in values["after"].items()
            if name in OBSERVED and name not in changes and value != before[name]
        }
        set_to = {f"{SET}{name}": value for name, value in asked.items()}
        recorded = {f"{WAS}{name}": spelled(before[name]) for name in asked}
        values |= {"before": before, "question": urlencode({"case": chosen, **set_to, **recorded})}
    return studio.page(request, "phantom.html", **values)


@routes.get("/phantom/{chosen}/{changed}/{shown}/{asked}")
def for_phantom(request: Request, chosen: str, changed: str, shown: Shown, asked: Asked) -> Response:
    """A true image, or a true difference, for the viewer."""
    case, form = _case(studio_of(request), chosen), dict(parse_qsl(changed))
    changes = {name.removeprefix(SET): value for name, value in form.items() if name.startswith(SET)}
    return for_viewer(true_images(case, changes, _held(changes, form))[shown], asked)


def virtual_cases(studio: Studio, user: str) -> list[Choice]:
    """The rows of virtual cohorts among those of the tables."""
    tables = {name for name, path in studio.catalogue.manifests().items() if described_case(path, path)}
    rows = [choice for choice in choices(studio, user, "image") if choice.value.startswith(ROW)]
    return [choice for choice in rows if table_and_line(choice.value)[0] in tables]


def true_images(case: VirtualCase, changes: Mapping[str, str], held: list[str]) -> dict[Shown, Image]:
    """The true image as recorded, that of the change, and their difference."""
    before, after = case.images(changes, held)
    difference = replace(after, pixels=after.pixels - before.pixels)
    return {"recorded": before, "changed": after, "difference": difference}


def _case(studio: Studio, chosen: str) -> VirtualCase:
    row, path = studio.catalogue.named_row(chosen), studio.catalogue.manifests().get(table_and_line(chosen)[0])
    case = case_of({} if path is None else described_case(path, row.path))
    if case is None:
        raise UserError("this row is no virtual patient; choose one of a cohort that `medloom data phantom` made.")
    return case


def _changes(form: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, str]:
    """Variable -> another value than the recorded one."""
    given = {name: form.get(f"{SET}{name}", "").strip() for name in MODEL}
    return {name: value for name, value in given.items() if value and value != spelled(before[name])}


def _held(changes: Mapping[str, str], form: Mapping[str, str]) -> list[str]:
    if form.get("effect", TOTAL) != DIRECT:
        return []
    following = {other for name in changes for other in descendants(name)}
    return sorted(following - set(changes))


def _study(case: VirtualCase, chosen: str, changes: Mapping[str, str], form: Mapping[str, str]) -> dict[str, Any]:
    """The true images as the viewer takes them."""
    asked = {**{f"{SET}{name}": value for name, value in changes.items()}, "effect": form.get("effect", TOTAL)}
    base = f"/phantom/{urlencode({'': chosen})[1:]}/{urlencode(asked)}"
    names: tuple[Shown, ...] = ("recorded", "changed", "difference") if changes else ("recorded",)
    arms = [
        {
            "base": f"{base}/{name}",
            "label": LABELS[name],
            "generated": True,
            "support": "virtual patient, without the scanner's noise",
            "isDifference": name == "difference",
            "over": 1,
        }
        for name in names
    ]
    difference = true_images(case, changes, _held(changes, form))["difference"] if changes else None
    return {
        "id": "phantom",
        "modality": "phantom",
        "arms": arms,
        "reach": None if difference is None else reach_of([difference]),
        "layout": "2x2" if changes else "1x1",
    }
