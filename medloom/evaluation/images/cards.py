"""A data card of the images and a model card of their generator, filled with the metrics of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medloom.core.files import write_text
from medloom.evaluation.report.markdown import answers_table, table
from medloom.evaluation.report.metrics import EVERYTHING, WORSE, Metric, with_interval
from medloom.evaluation.report.report import Report
from medloom.evaluation.report.source_population import PHANTOM, has_virtual, source_population
from medloom.generators.storage import open_generator

MODEL_CARD, DATA_CARD = "model_card.md", "data_card.md"
WARNING = (
    "**Research use only.** The images are SYNTHETIC; whether they copy patients is answered below. Do not use them for"
    " diagnosis, treatment or any other decision about a person."
)
USE = """## Intended use
Research: augmenting training sets, developing and comparing methods, teaching.

## Out of scope
- Diagnosis, triage, treatment, or any decision about a person.
- Forecasts for a patient: an edit or a what-if shows what the model has learnt of groups, not that patient's future.
- Test sets: a device or a model for clinical use is evaluated on images of patients.
- Modalities, sizes, and values of columns outside the source population below.
- Identifying or reconstructing patients.
"""
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
    rows = [
        (
            metric.name,
            metric.extractor or "-",
            with_interval(metric.value, metric.low, metric.high),
            _reference(metric),
            f"{metric.n} {metric.counted}",
        )
        for metric in report.metrics
        if metric.subset == EVERYTHING
    ]
    header = ("metric", "features", "value [95 % interval]", "reference", "n")
    measured = ["## Measured", "", *table(header, rows)]
    worse = [
        f"- {metric}: {with_interval(metric.value, metric.low, metric.high)}, reference {_reference(metric)}"
        for metric in report.metrics
        if metric.reading.endswith(WORSE)
    ]
    weak = ["", "## Weaknesses", "", *(worse or ["No metric is worse than its reference."]), ""]
    notes = ["## Notes", "", *(f"- {note}" for note in report.notes), ""] if report.notes else []
    synthetic = sets[0]
    virtual = [str(entry["name"]) for entry in sets[1:] if entry.get("virtual_images")]
    answers = ["## Answers", "", *answers_table(report.answers), ""]
    data = {
        "images": synthetic["images"],
        "modalities": _counts(synthetic["modalities"]),
        "classes": _counts(synthetic["classes"]) or "none named",
        "compared with": "; ".join(f"{entry['name']}: {entry['images']} images" for entry in sets[1:]),
        **({"virtual patients": f"the images called {', '.join(virtual)} are a phantom's"} if virtual else {}),
        **_sizes(sets, report),
    }
    phantom = ["", PHANTOM, ""] if virtual else []
    cards = [(DATA_CARD, "# Data card", [*answers, *_facts(data), *phantom, *measured, *weak, *notes])]
    if model is not None:
        run = open_generator(model)
        description = run.description()
        identity = description["identity"]
        spec = identity["spec"]
        known = {
            "family": run.index()["family"],
            "hash of the weights": report.facts.get("model") or run.model_hash(),
            "generated images": f"{' x '.join(map(str, spec['size']))} pixels, {', '.join(sorted(spec['intensity']))}",
            **_sizes(sets, report),
            "optimiser steps": identity["options"]["loop"]["steps"],
            "seed": identity["options"]["loop"]["seed"],
            "medloom": description["environment"]["medloom"],
        }
        # A run of a version that kept no counts is known by the images that it is compared with.
        trained = has_virtual(run)
        phantom = ["", PHANTOM, ""] if (bool(virtual) if trained is None else trained) else [""]
        source = ["## Source population", "", *table(("", ""), source_population(run).items()), *phantom]
        cards.append((MODEL_CARD, "# Model card", [*answers, USE, *source, *_facts(known), *measured, *weak]))
    for file, title, lines in cards:
        write_text(out / file, "\n".join([title, "", WARNING, "", *lines, LIMITS]))


def _facts(values: Mapping[str, object]) -> list[str]:
    return ["## Facts", "", *table(("", ""), values.items()), ""]


def _sizes(sets: Sequence[Mapping[str, object]], report: Report) -> dict[str, str]:
    """The largest image that was evaluated, and the size at which networks have judged it."""
    spec = report.facts.get("spec")
    judged = " x ".join(map(str, spec["size"])) if isinstance(spec, Mapping) else "unknown size"
    largest = sets[0].get("largest", "unknown size")
    return {"largest size validated": f"{largest} pixels, of the files looked at; networks judged them at {judged}"}


def _reference(metric: Metric) -> str:
    reference = metric.reference
    return f"{with_interval(reference.value, reference.low, reference.high)} ({reference.what})"


def _counts(counts: object) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) if isinstance(counts, Mapping) else ""
