"""Generate: a form of what the model can be asked, and the result next to it."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.studio.catalogue import KnownModel
from medloom.studio.forms.generate import MOST, MOST_STEPS, OUTSIDE, generate_words, outside_of
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.settings import recalled
from medloom.studio.pages.jobs import job_values
from medloom.studio.pages.sources import choices, chosen_mask, gone, labels_of, modality_of
from medloom.studio.web.studio import Studio, studio_of, user_of

routes = APIRouter()


@routes.get("/generate")
def show(
    request: Request, model: str = "", job: str = "", seed: str = "", only: str = "", also: str = ""
) -> HTMLResponse:
    """The form, filled in as that of a job if one is named, and that job's result.

    Args:
        request: of a browser.
        model: its name.
        job: whose form is filled in.
        seed: that comes before the job's.
        only: the field of the job's form that is taken over, and no other.
        also: another model that is asked for the same.
    """
    studio = studio_of(request)
    shown = studio.job_of(request, job) if job else studio.running(request, "generate")
    form = {**recalled(shown, seed, only), **({"also": also} if also else {})}
    given = _values(studio, user_of(request), _model(studio, model or form.get("model", "")), form, {})
    values = {} if shown is None else job_values(studio, shown)
    return studio.page(request, "generate.html", **given, job=shown, **values)


@routes.get("/generate/form")
def show_form(request: Request, model: str = "") -> HTMLResponse:
    """The form of another model, or with the examples of another modality."""
    studio = studio_of(request)
    given = _values(studio, user_of(request), _model(studio, model), dict(request.query_params), {})
    return studio.page(request, "generate_form.html", **given)


@routes.post("/generate")
async def ask(request: Request) -> Response:
    """Queue what was filled in; or the form with what is wrong with it."""
    studio = studio_of(request)
    user, form = user_of(request), {name: str(value) for name, value in (await request.form()).items()}
    model = studio.catalogue.model(form.get("model", ""))
    try:
        planned = [_planned(studio, user, model, form)]
        if form.get("also"):
            planned.append(_planned(studio, user, studio.catalogue.model(form["also"]), form, "also"))
        jobs = [studio.store.jobs.add(user, "generate", words, title, own) for words, title, own in planned]
    except UserError as error:
        wrong = error.fields if isinstance(error, FormError) else {"": str(error)}
        return studio.page(request, "generate_form.html", 422, **_values(studio, user, model, form, wrong))
    shown = [studio.draw(request, "job.html", job=job, **job_values(studio, job)) for job in jobs]
    if len(jobs) > 1:
        shown.insert(0, studio.draw(request, "compare_link.html", jobs=jobs))
    return HTMLResponse("".join(shown), headers={"HX-Push-Url": f"/generate?job={jobs[0].id}"})


def _planned(
    studio: Studio, user: str, model: KnownModel, form: Mapping[str, str], field: str = ""
) -> tuple[list[str], str, dict[str, str]]:
    """Words, title and form of a job of a model.

    Args:
        studio: with the model.
        user: whose files may be named.
        model: that generates.
        form: as the browser sent it.
        field: that names what is wrong, where the form was made for another model.

    Raises:
        FormError: the model cannot be asked for it.
    """
    try:
        facts = model.require_facts()
        words, title = generate_words(model.path, facts, form, lambda chosen: chosen_mask(studio, user, chosen, facts))
    except UserError as error:
        if not field:
            raise
        raise FormError({field: f"{model.name}: {error}"}) from error
    return words, f"{title} by {model.name}", {**form, "model": model.name, OUTSIDE: ", ".join(outside_of(facts, form))}


def _model(studio: Studio, name: str) -> KnownModel | None:
    """The model of that name, else the first that can be used, else the first; None where there is none."""
    models = studio.catalogue.models()
    named = next((model for model in models if model.name == name), None)
    return named or next((model for model in models if model.facts), models[0] if models else None)


def _values(
    studio: Studio, user: str, model: KnownModel | None, form: Mapping[str, str], wrong: Mapping[str, str]
) -> dict[str, Any]:
    """What the form shows."""
    facts = None if model is None else model.facts
    modality = modality_of(facts, form)
    chosen = form.get("mask", "")
    masks = choices(studio, user, "mask", modality, chosen) if facts and "mask" in facts.parts else []
    if masks and gone(chosen, masks):
        wrong = {"mask": "The mask is gone, or its row is another one now: choose again.", **wrong}
    return {
        "models": studio.catalogue.models(),
        "model": model,
        "facts": facts,
        "form": form,
        "wrong": wrong,
        "examples": studio.catalogue.examples(modality) if facts and facts.reads_text else {},
        "masks": masks,
        "labels": labels_of(facts) if facts else "",
        "most": MOST,
        "most_steps": MOST_STEPS,
    }
