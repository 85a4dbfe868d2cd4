"""A data card of the images and a model card of their generator, filled with the metrics of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medloom.core.files import write_text
from medloom.evaluation.report.metrics import EVERYTHING, WORSE, Metric, with_interval
from medloom.evaluation.report.report import Report
from medloom.generators.storage import open_generator

MODEL_CARD, DATA_CARD = "model_card.md", "data_card.md"
WARNING = (
    "**Research use only.** The images are SYNTHETIC and show no patient. Do not use them for diagnosis, treatment or"
    " any other decision about a person."
)
LIMITS = """## Limits
- The metrics hold for these images, these real images and these feature extractors, and for no others.
- A metric within its reference is no proof that there is no difference.
- Rules that look for identifiers and copies find what they were written for. That nothing was found is no proof.
"""


def write_cards(out: Path, report: Report, sets: Sequence[Mapping[str, object]], model: Path | None) -> None:
    """Write data_card.md, and model_card.md if the model is known.

    Args:
        out: the folder.
        report: of the evaluation; metrics of all images are listed.
        sets: a row per set, as in the report; the first is the synthetic one.
        model: run folder of the generator, or None.
    """
    measured = [
        "## Measured",
        "",
        "| metric | features | value [95 % interval] | reference | n |",
        "|---|---|---|---|---|",
    ]
    measured += [
        f"| {metric.name} | {metric.extractor or '-'} | {with_interval(metric.value, metric.low, metric.high)}"
        f" | {_reference(metric)} | {metric.n} {metric.counted} |"
        for metric in report.metrics
        if metric.subset == EVERYTHING
    ]
    worse = [
        f"- {metric}: {with_interval(metric.value, metric.low, metric.high)}, reference {_reference(metric)}"
        for metric in report.metrics
        if metric.reading.endswith(WORSE)
    ]
    weak = ["", "## Weaknesses", "", *(worse or ["No metric is worse than its reference."]), ""]
    notes = ["## Notes", "", *(f"- {note}" for note in report.notes), ""] if report.notes else []
    synthetic = sets[0]
    data = {
        "images": synthetic["images"],
        "modalities": _counts(synthetic["modalities"]),
        "classes": _counts(synthetic["classes"]) or "none named",
        "compared with": "; ".join(f"{entry['name']}: {entry['images']} images" for entry in sets[1:]),
    }
    cards = [(DATA_CARD, "# Data card", data, [*measured, *weak, *notes])]
    if model is not None:
        run = open_generator(model)
        description, split = run.description(), run.splits()[0]
        identity = description["identity"]
        spec = identity["spec"]
        known = {
            "family": run.index()["family"],
            "hash of the weights": run.model_hash(),
            "generated images": f"{' x '.join(map(str, spec['size']))} pixels, {', '.join(sorted(spec['intensity']))}",
            "patients trained on": len(split.patients.get("train", ())),
            "optimiser steps": identity["options"]["loop"]["steps"],
            "seed": identity["options"]["loop"]["seed"],
            "medloom": description["environment"]["medloom"],
        }
        cards.append((MODEL_CARD, "# Model card", known, [*measured, *weak]))
    for file, title, facts, lines in cards:
        table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
        write_text(out / file, "\n".join([title, "", WARNING, "", *table, "", *lines, LIMITS]))


def _reference(metric: Metric) -> str:
    reference = metric.reference
    return f"{with_interval(reference.value, reference.low, reference.high)} ({reference.what})"


def _counts(counts: object) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) if isinstance(counts, Mapping) else ""
