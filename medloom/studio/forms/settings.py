"""What was filled in for a job, to be looked at, and to be taken over one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medloom.studio.forms.generate import COLUMN, OUTSIDE
from medloom.studio.forms.whatif import SET, WAS
from medloom.studio.store.jobs import Job

# Parts of a form that say where something lies, or what a case was before it was changed.
HIDDEN = ("cohort", "row_image", "drawn", OUTSIDE)
PREFIXES = (COLUMN, SET)
LABELS = {"n": "images", "text": "prompt", "beyond": "values outside of training", "strip": "film strip"}


@dataclass(frozen=True)
class Setting:
    """A field of a form with its value.

    Attributes:
        name: of the field.
        label: for people.
        value: as it was sent.
    """

    name: str
    label: str
    value: str


def settings_of(form: Mapping[str, Any]) -> list[Setting]:
    """The fields that were filled in.

    >>> [(own.label, own.value) for own in settings_of({"seed": "7", "column.age": "40", "view": "", "was.age": "3"})]
    [('seed', '7'), ('age', '40')]
    """
    found = []
    for name, value in form.items():
        if not value or name in HIDDEN or name.startswith(WAS):
            continue
        if name.startswith(SET) and value == form.get(f"{WAS}{name.removeprefix(SET)}"):
            continue
        label = next((name.removeprefix(own) for own in PREFIXES if name.startswith(own)), LABELS.get(name, name))
        found.append(Setting(name, label, "; ".join(value) if isinstance(value, list) else str(value)))
    return found


def recalled(job: Job | None, seed: str = "", only: str = "") -> dict[str, Any]:
    """What a form is filled in with.

    Args:
        job: whose form; None for an empty one.
        seed: that comes before the job's.
        only: the one field that is taken over, with the model that it was for; empty for all.
    """
    form = dict(job.form) if job else {}
    if only:
        form = {
            name: value for name, value in form.items() if name in ("model", only, f"{WAS}{only.partition('.')[2]}")
        }
    return {**form, **({"seed": seed} if seed else {})}
