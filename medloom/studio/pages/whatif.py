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
from medloom.data.manifest import template_of, template_path
from medloom.studio.catalogue import KnownModel
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.settings import WAS, recalled
from medloom.studio.forms.whatif import MOST_ARMS, MOST_SEEDS, SET, as_recorded, whatif_words
from medloom.studio.pages.jobs import job_values
from medloom.studio.pages.sources import ROW, choices
from medloom.studio.results.truth import described_case
from medloom.studio.web.studio import Studio, studio_of, user_of

routes = APIRouter()


@routes.get("/whatif")
def show(request: Request, model: str = "", job: str = "", seed: str = "", only: str = "") -> HTMLResponse:
    """The form, filled in as that of a job if one is named, and that job's result; see `generate.show`."""
    studio = studio_of(request)
    shown = studio.job_of(request, job) if job else None
    # A case and changes come from the page of virtual patients.
    asked = {name: value for name, value in request.query_params.items() if name.startswith(("case", SET, WAS))}
    form: dict[str, Any] = {**recalled(shown, seed, only), **asked}
    chosen = _model(studio, model or form.get("model", ""))
    values = {} if shown is None else job_values(studio, shown)
    given = _values(studio, user_of(request), chosen, form, form.get("arms", []), {})
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
    table, _, line = chosen.removeprefix(ROW).rpartition(":")
    if not chosen.startswith(ROW):
        raise FormError({"case": "Choose a case: a row of a table of the studio."})
    manifest, path = studio.catalogue.manifest(table), studio.catalogue.manifests()[table]
    one = manifest.select(str(each) == line for each in manifest.frame["line"])
    if not len(one):
        raise FormError({"case": "This row is not in its table any more; choose another one."})
    make_folder(folder)
    one.write(folder / "case.csv")
    template = template_of(path)
    if template is not None:
        shutil.copyfile(template, template_path(folder / "case.csv"))
    return described_case(path, one.samples()[0].path)


def _model(studio: Studio, name: str) -> KnownModel | None:
    """The model of that name, else the first that a what-if can be asked of; None where there is none."""
    able = [model for model in studio.catalogue.models() if model.facts is None or model.facts.attributes]
    named = next((model for model in able if model.name == name), None)
    return named or next((model for model in able if model.facts), able[0] if able else None)


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
    cases = [case for case in choices(studio, user, "image") if case.value.startswith(ROW)] if facts else []
    chosen = form.get("case") or (cases[0].value if cases else "")
    return {
        "models": [
            known for known in studio.catalogue.models() if known == model or (known.facts and known.facts.attributes)
        ],
        "model": model,
        "facts": facts,
        "form": form,
        "arms": arms,
        "wrong": wrong,
        "cases": cases,
        "case": chosen,
        "recorded": _recorded(studio, chosen) if chosen else {},
        "most_arms": MOST_ARMS,
        "most_seeds": MOST_SEEDS,
    }


def _recorded(studio: Studio, chosen: str) -> dict[str, str]:
    """The cells of a case as the form has them."""
    table, _, line = chosen.removeprefix(ROW).rpartition(":")
    try:
        row = studio.catalogue.row(table, line)
    except UserError:
        return {}
    return {} if row is None else {name: as_recorded(cell) for name, cell in row.condition.table.items()}
