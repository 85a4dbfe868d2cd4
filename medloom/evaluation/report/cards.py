"""A card of the model and one of its images, filled from what an evaluation measured: for a release, and to be read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medloom.core.files import write_text
from medloom.evaluation.report.metrics import EVERYTHING, WORSE, Figure
from medloom.evaluation.report.pages import number

MODEL_CARD, DATA_CARD = "model_card.md", "data_card.md"
WARNING = (
    "**Research use only.** The images are SYNTHETIC and show no patient. They must not be used for diagnosis,"
    " treatment or any other decision about a person."
)
LIMITS = """## Limits
- Figures are of these images, these real images and these extractors of features; another set has others.
- A figure within its reference is no proof that there is no difference.
- Rules that look for identifiers and copies find what they were written for. That nothing was found is no proof.
"""


def write_cards(
    out: Path,
    figures: Sequence[Figure],
    sets: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    model: Mapping[str, Any] | None,
) -> None:
    """Write data_card.md, and model_card.md where the model is known.

    Args:
        out: the folder.
        figures: of the evaluation; those of all images are told.
        sets: a row for each set, as in the report.
        notes: of the evaluation.
        model: what its run says of it, by name, or None.
    """
    measured = _measured([figure for figure in figures if figure.subset == EVERYTHING])
    weak = _weak(figures)
    synthetic = sets[0]
    told = {
        "images": synthetic["images"],
        "modalities": _counts(synthetic["modalities"]),
        "classes": _counts(synthetic.get("classes", {})) or "none named",
        "compared with": "; ".join(f"{entry['name']}: {entry['images']} images" for entry in sets[1:]),
    }
    _write(out / DATA_CARD, "# Data card", told, [measured, weak, _noted(notes)])
    if model is not None:
        _write(out / MODEL_CARD, "# Model card", model, [measured, weak])


def _write(path: Path, title: str, told: Mapping[str, Any], parts: Sequence[str]) -> None:
    write_text(path, "\n".join([title, "", WARNING, "", *_table(told), "", *parts, LIMITS]))


def _table(told: Mapping[str, Any]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in told.items())]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _measured(figures: Sequence[Figure]) -> str:
    """A row for each figure, with its interval and what it is to be read beside."""
    header = "| figure | features | value (95 % interval) | reference | n |"
    rows = ["## What was measured", "", header, "|---|---|---|---|---|"]
    for figure in figures:
        reference = figure.reference
        value = _span(figure.value, figure.low, figure.high)
        beside = f"{_span(reference.value, reference.low, reference.high)} ({reference.what})"
        rows.append(
            f"| {figure.metric} | {figure.extractor or '-'} | {value} | {beside} | {figure.n} {figure.counted} |"
        )
    return "\n".join([*rows, ""])


def _span(value: float, low: float | None, high: float | None) -> str:
    return number(value) if low is None or high is None else f"{number(value)} ({number(low)} to {number(high)})"


def _weak(figures: Sequence[Figure]) -> str:
    """What is worse than its reference, of all images and of subsets."""
    worse = [figure for figure in figures if figure.reading.endswith(WORSE)]
    lines = [
        f"- {figure.metric} of {figure.subset}{f' by {figure.extractor}' if figure.extractor else ''}:"
        f" {_span(figure.value, figure.low, figure.high)} beside {number(figure.reference.value)}"
        f" ({figure.reference.what})"
        for figure in worse
    ]
    return "\n".join(["## What is weak", "", *(lines or ["No figure is worse than its reference."]), ""])


def _noted(notes: Sequence[str]) -> str:
    return "\n".join(["## Notes", "", *(f"- {note}" for note in notes), ""]) if notes else ""
