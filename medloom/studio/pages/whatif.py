"""What-if: a case, its attributes to be moved, and the factual image next to the changed ones."""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.core.files import make_folder
from medloom.core.types import Sample
from medloom.data.manifest import template_of, template_path
from medloom.studio.catalogue import ROW, KnownModel, table_and_line
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.settings import recalled
from medloom.studio.forms.whatif import MOST_ARMS, MOST_SEEDS, SET, WAS, as_recorded, whatif_words
from medloom.studio.model_facts import ColumnFacts, ModelFacts
from medloom.studio.pages.jobs import job_values
from medloom.studio.pages.sources import choices, gone
from medloom.studio.results.truth import described_case
from medloom.studio.web.studio import Studio, studio_of, user_of

routes = APIRouter()


@routes.get("/whatif")
def show(request: Request, model: str = "", job: str = "", seed: str = "", only: str = "") -> HTMLResponse:
    """The form, filled in as that of a job if one is named, and that job's result; see `generate.show`."""
    studio = studio_of(request)
    shown = studio.job_of(request, job) if job else studio.running(request, "whatif")
    # A case and changes come from the page of virtual patients.
    asked = {name: value for name, value in request.query_params.items() if name.startswith(("case", SET, WAS))}
    form: dict[str, Any] = {**recalled(shown, seed, only), **asked}
    chosen = _model(studio, model or form.get("model", ""), form.get("case", ""))
    values = {} if shown is None else job_values(studio, shown)
    given = _values(studio, user_of(request), chosen, form, form.get("arms", []), {})
    unknown = sorted({name.removeprefix(SET) for name in asked if name.startswith(SET)} - {*given["attributes"]})
    if chosen is not None and chosen.facts and unknown:
        given["wrong"] = {
            **given["wrong"],
            "": f"{chosen.name} was not given {', '.join(unknown)}: it cannot be asked.",
        }
    return studio.page(request, "whatif.html", **given, job=shown, **values)


@routes.get("/whatif/form")
def show_form(request: Request, model: str = "") -> HTMLResponse:
    """The form of another model, or with the attributes of another case."""
    studio = studio_of(request)
    form, arms = dict(request.query_params), request.query_params.getlist("arm")
    given = _values(studio, user_of(request), _model(studio, model), form, arms, {})
    return studio.page(request, "whatif_form.html", **given)


@routes.post("/whatif")
async def ask(request: Request) -> Response:
    """Queue what was filled in; or the form with what is wrong with it."""
    studio, user, sent = studio_of(request), user_of(request), await request.form()
    form = {name: str(value) for name, value in sent.items() if name != "arm"}
    arms = [str(arm) for arm in sent.getlist("arm")]
    model = studio.catalogue.model(form.get("model", ""))
    folder = studio.store.folder / "cases" / uuid.uuid4().hex
    try:
        facts = model.require_facts()
        if not facts.attributes:
            raise UserError(f"the model {model.name} has neither a table nor worded columns: nothing can be changed.")
        words, title = whatif_words(model.path, facts, form, arms, folder / "case.csv")
        known = _write_case(studio, form.get("case", ""), folder)
        kept = {**form, **known, "arms": arms}
        job = studio.store.jobs.add(user, "whatif", words, f"{title}, by {model.name}", kept)
    except UserError as error:
        shutil.rmtree(folder, ignore_errors=True)
        wrong = error.fields if isinstance(error, FormError) else {"": str(error)}
        return studio.page(request, "whatif_form.html", 422, **_values(studio, user, model, form, arms, wrong))
    answer = studio.page(request, "job.html", job=job, **job_values(studio, job))
    answer.headers["HX-Push-Url"] = f"/whatif?job={job.id}"
    return answer


def _write_case(studio: Studio, chosen: str, folder: Path) -> dict[str, str]:
    """Write a table of the chosen row alone, with the template of its table; returns where its truth is, if known.

    Raises:
        FormError: no case was chosen, or it is gone.
    """
    if not chosen.startswith(ROW):
        raise FormError({"case": "Choose a case: a row of a table of the studio."})
    try:
        row, table = studio.catalogue.named_row(chosen), table_and_line(chosen)[0]
    except UserError as error:
        raise FormError({"case": str(error)}) from error
    manifest, path = studio.catalogue.manifest(table), studio.catalogue.manifests()[table]
    one = manifest.select(each == row.line for each in manifest.frame["line"])
    make_folder(folder)
    one.write(folder / "case.csv")
    template = template_of(path)
    if template is not None:
        shutil.copyfile(template, template_path(folder / "case.csv"))
    return described_case(path, one.samples()[0].path)


def _model(studio: Studio, name: str, case: str = "") -> KnownModel | None:
    """The model of that name, else the first that a what-if of the case can be asked of; None where there is none."""
    able = [model for model in studio.catalogue.models() if model.facts is None or model.facts.attributes]
    named = next((model for model in able if model.name == name), None)
    known = [model for model in able if model.facts]
    row = _row(studio, case) if case else None
    fitting = next((model for model in known if model.facts and row is not None and _suits(model.facts, row)), None)
    return named or fitting or next(iter(known or able), None)


def _suits(facts: ModelFacts, row: Sample) -> bool:
    """Whether a model can be asked about a row: its modality is known, and so are all columns that it needs."""
    needed = {column.name for column in facts.table if column.needed}
    return row.condition.modality in facts.units and needed <= set(row.condition.table)


def _values(
    studio: Studio,
    user: str,
    model: KnownModel | None,
    form: Mapping[str, Any],
    arms: Sequence[str],
    wrong: Mapping[str, str],
) -> dict[str, Any]:
    """What the form shows."""
    facts = None if model is None else model.facts
    rows = [case for case in choices(studio, user, "image", None, form.get("case", "")) if case.value.startswith(ROW)]
    known = {case.value: _row(studio, case.value) for case in rows}
    cases = [case for case in rows if facts and (row := known[case.value]) is not None and _suits(facts, row)]
    chosen, wanted = cases[0].value if cases else "", form.get("case", "")
    # In an address that somebody wrote, a row may have no mark.
    wanted = next((case.value for case in cases if wanted and case.value.startswith(f"{wanted}@")), wanted)
    if gone(wanted, cases):
        wrong = {
            "case": "The case is gone, is another one now, or does not fit this model: choose again.",
            **wrong,
        }
    elif wanted:
        chosen = wanted
    return {
        "models": [
            known for known in studio.catalogue.models() if known == model or (known.facts and known.facts.attributes)
        ],
        "model": model,
        "facts": facts,
        "form": form,
        "arms": arms,
        "wrong": dict(wrong),
        "cases": cases,
        "case": chosen,
        "attributes": {column.name: column for column in _attributes(studio, facts, chosen)} if facts else {},
        "unread": _unread(studio),
        "recorded": _recorded(studio, chosen) if chosen else {},
        "most_arms": MOST_ARMS,
        "most_seeds": MOST_SEEDS,
    }


def _attributes(studio: Studio, facts: ModelFacts, chosen: str) -> tuple[ColumnFacts, ...]:
    """What can be changed of a case: columns of the table, and those that the template of its table words."""
    path = studio.catalogue.manifests().get(table_and_line(chosen)[0])
    return facts.table if path is not None and template_of(path) is None else facts.attributes


def _unread(studio: Studio) -> list[str]:
    """Why tables cannot be read."""
    found = []
    for name in studio.catalogue.manifests():
        try:
            studio.catalogue.rows(name)
        except UserError as error:
            found.append(str(error))
    return found


def _recorded(studio: Studio, chosen: str) -> dict[str, str]:
    """The cells of a case as the form has them."""
    row = _row(studio, chosen)
    return {} if row is None else {name: as_recorded(cell) for name, cell in row.condition.table.items()}


def _row(studio: Studio, chosen: str) -> Sample | None:
    """The row that a form's value names; None where there is none."""
    try:
        return studio.catalogue.named_row(chosen)
    except UserError:
        return None
