"""Generate: a form of what the model can be asked, and the result next to it."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from medloom.core.errors import UserError
from medloom.studio.catalogue import KnownModel
from medloom.studio.forms.generate import MOST, MOST_STEPS, generate_words
from medloom.studio.forms.reading import FormError
from medloom.studio.pages.jobs import job_values
from medloom.studio.pages.sources import choices, chosen_file
from medloom.studio.web.studio import Studio, studio_of, user_of

routes = APIRouter()


@routes.get("/generate")
def show(request: Request, model: str = "", job: str = "", seed: str = "") -> HTMLResponse:
    """The form, filled in as that of a job if one is named, and that job's result."""
    studio = studio_of(request)
    shown = studio.job_of(request, job) if job else None
    form = {**(dict(shown.form) if shown else {}), **({"seed": seed} if seed else {})}
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
    form = {name: str(value) for name, value in (await request.form()).items()}
    model = studio.catalogue.model(form.get("model", ""))
    try:
        facts = model.require_facts()
        words, title = generate_words(
            model.path, facts, form, lambda chosen: chosen_file(studio, user_of(request), chosen, "mask")
        )
        job = studio.store.jobs.add(user_of(request), "generate", words, f"{title} by {model.name}", form)
    except UserError as error:
        wrong = error.fields if isinstance(error, FormError) else {"": str(error)}
        return studio.page(request, "generate_form.html", 422, **_values(studio, user_of(request), model, form, wrong))
    answer = studio.page(request, "job.html", job=job, **job_values(studio, job))
    answer.headers["HX-Push-Url"] = f"/generate?job={job.id}"
    return answer


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
    modality = form.get("modality") or (next(iter(facts.units)) if facts else None)
    return {
        "models": studio.catalogue.models(),
        "model": model,
        "facts": facts,
        "form": form,
        "wrong": wrong,
        "examples": studio.catalogue.examples(modality) if facts and facts.reads_text else {},
        "masks": choices(studio, user, "mask", modality) if facts and "mask" in facts.parts else [],
        "most": MOST,
        "most_steps": MOST_STEPS,
    }
