"""Edit: a prior image, an instruction, and the result next to the prior image."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.studio.catalogue import KnownModel
from medloom.studio.forms.edit import BRUSH, REGIONS, edit_words
from medloom.studio.forms.generate import MOST, MOST_STEPS
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.settings import recalled
from medloom.studio.pages.jobs import job_values
from medloom.studio.pages.sources import choices, chosen_file, gone, modality_of
from medloom.studio.web.studio import Studio, studio_of, user_of

routes = APIRouter()
# What each region means, in the form.
MEANINGS = {
    "auto": "where the instruction makes a difference, found by the model",
    "everywhere": "everywhere",
    BRUSH: "where I draw",
}


@routes.get("/edit")
def show(request: Request, model: str = "", job: str = "", seed: str = "", only: str = "") -> HTMLResponse:
    """The form, filled in as that of a job if one is named, and that job's result; see `generate.show`."""
    studio = studio_of(request)
    shown = studio.job_of(request, job) if job else studio.running(request, "edit")
    form = recalled(shown, seed, only)
    chosen = editor_of(studio, model or form.get("model", ""))
    values = {} if shown is None else job_values(studio, shown)
    return studio.page(request, "edit.html", **_values(studio, user_of(request), chosen, form, {}), job=shown, **values)


@routes.get("/edit/form")
def show_form(request: Request, model: str = "") -> HTMLResponse:
    """The form of another model, or with the images of another modality."""
    studio = studio_of(request)
    form, chosen = dict(request.query_params), editor_of(studio, model)
    return studio.page(request, "edit_form.html", **_values(studio, user_of(request), chosen, form, {}))


@routes.post("/edit")
async def ask(request: Request) -> Response:
    """Queue what was filled in; or the form with what is wrong with it."""
    studio, user = studio_of(request), user_of(request)
    form = {name: str(value) for name, value in (await request.form()).items()}
    model = studio.catalogue.model(form.get("model", ""))
    try:
        facts = model.require_facts()
        if not facts.edits:
            raise UserError(f"the model {model.name} takes no prior image: it edits nothing.")
        words, title = edit_words(
            model.path,
            facts,
            form,
            lambda chosen: chosen_file(studio, user, chosen, "prior", "prior", facts.dims),
            lambda chosen: chosen_file(studio, user, chosen, "mask", "region", facts.dims),
        )
        job = studio.store.jobs.add(user, "edit", words, f"{title} by {model.name}", form)
    except UserError as error:
        wrong = error.fields if isinstance(error, FormError) else {"": str(error)}
        return studio.page(request, "edit_form.html", 422, **_values(studio, user, model, form, wrong))
    answer = studio.page(request, "job.html", job=job, **job_values(studio, job))
    answer.headers["HX-Push-Url"] = f"/edit?job={job.id}"
    return answer


def editor_of(studio: Studio, name: str) -> KnownModel | None:
    """The editor of that name, else the first one; None where there is none."""
    editors = [model for model in studio.catalogue.models() if model.facts is None or model.facts.edits]
    named = next((model for model in editors if model.name == name), None)
    usable = named or next((model for model in editors if model.facts), None)
    if usable or any(model.is_being_read for model in editors):
        return usable
    # Why it cannot be used is said in the form.
    return next(iter(editors), None)


def _values(
    studio: Studio, user: str, model: KnownModel | None, form: Mapping[str, str], wrong: Mapping[str, str]
) -> dict[str, Any]:
    """What the form shows."""
    facts = None if model is None else model.facts
    modality = modality_of(facts, form)
    known = studio.catalogue.models()
    chosen = form.get("prior", "")
    priors = choices(studio, user, "prior", modality, chosen) if facts else []
    if priors and gone(chosen, priors):
        wrong = {
            "prior": "The prior image is gone, or its row is another one now: choose again.",
            **wrong,
        }
    regions = {name: MEANINGS[name] for name in REGIONS}
    if facts and not facts.finds_regions:
        del regions["auto"]
    if facts and facts.dims == 3:
        del regions[BRUSH]
    return {
        "models": [own for own in known if own == model or (own.facts and own.facts.edits)],
        "reading": any(own.is_being_read for own in known),
        "model": model,
        "facts": facts,
        "form": form,
        "wrong": wrong,
        "priors": priors,
        "examples": studio.catalogue.instructions() if facts else [],
        "regions": regions,
        "most": MOST,
        "most_steps": MOST_STEPS,
    }
