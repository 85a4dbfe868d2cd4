"""Whose images a model was trained on, in counts and ranges: what cards and checklists say of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from medloom.core.table_column import TableColumn
from medloom.data.prompts.support import SUPPORT, TrainingSupport
from medloom.generators.run_folder import RunFolder

NOT_RECORDED = "not recorded by the version that trained the model"
PHANTOM = (
    "A phantom can show that a method recovers effects that were put into it. It does not show that the method does so"
    " in patients."
)


def source_population(run: RunFolder) -> dict[str, str]:
    """What the run knows of its training images; no identifier is among it.

    Args:
        run: of a generator.
    """
    description, split = run.description(), run.splits()[0]
    patients = {name: len(ids) for name, ids in split.patients.items()}
    own = description.get("population") or {}
    counts: Mapping[str, int] = own.get("modalities", {})
    by_image = description["images_are_patients"]
    modalities = ", ".join(f"{name or 'none named'} ({count} images)" for name, count in counts.items())
    columns = "; ".join(f"{column.name}: {column.seen}" for column in columns_of(run))
    return {
        "training images": str(own.get("images", NOT_RECORDED)),
        "patients trained on": f"{patients.get('train', 0)}",
        "patients held out for validation": f"{patients.get('validation', 0)}",
        "a patient is": "an image, each taken for another patient's" if by_image else "whom the table names",
        "modalities": modalities or ", ".join(sorted(description["identity"]["spec"]["intensity"])),
        "columns in training": columns or "none",
        "virtual patients": _virtual(own),
    }


def _virtual(own: Mapping[str, Any]) -> str:
    if not own:
        return NOT_RECORDED
    before = sum(known["virtual_images"] for known in _all(own)) - own["virtual_images"]
    earlier = f"; {before} of what it was continued from" if before else ""
    return f"{own['virtual_images']} of {own['images']} training images are of a phantom's virtual patients{earlier}"


def _all(own: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield own
    for before in own.get("before", ()):
        if before:
            yield from _all(before)


def has_virtual(run: RunFolder) -> bool | None:
    """Whether a run, or one that it starts from, was trained on virtual patients; None where no run says it."""
    own = run.description().get("population")
    return any(known["virtual_images"] for known in _all(own)) if own else None


def columns_of(run: RunFolder) -> list[TableColumn]:
    """The columns that conditioned the model or stood in its texts, as training had them."""
    if (run.path / SUPPORT).is_file():
        return [own.column for own in TrainingSupport.read(run.path / SUPPORT).columns.values()]
    return run.worded_columns()
