"""The page of an agreement report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medloom.evaluation.report.metrics import EVERYTHING
from medloom.evaluation.report.report import embedded, page
from medloom.feedback.agreement.measure import FRACTION, MEASURES, PERCENT, Agreement, first_ratings
from medloom.feedback.agreement.origin import CHANCE, Origin
from medloom.feedback.measured import Measured
from medloom.feedback.plots import boxes, forest, stacked

if TYPE_CHECKING:
    import pandas as pd

MEANINGS: Mapping[str, str] = {
    PERCENT: "how often two raters give the same level; high in any case where nearly all are of one level",
    "Gwet's AC1": "agreement beyond chance, where chance is small if nearly all images are of one level",
    "Gwet's AC2, quadratic": "the same; neighbouring levels count in part",
    "Krippendorff's alpha, ordinal": "1 less observed over expected disagreement, by the order of the levels",
    "Cohen's kappa": "agreement beyond chance, mean over pairs of raters; chance by each rater's own levels",
    "Cohen's kappa, quadratic": "the same; neighbouring levels count in part",
    "Fleiss' kappa": "agreement beyond chance; chance by the levels of all raters",
}
WORDS: Mapping[str, Sequence[str]] = {
    "realism": ("1 unacceptable", "2 acceptable", "3 as real"),
    "match": ("1 none", "2 partly", "3 matches"),
    "level": ("level 1", "level 2", "level 3"),
    "confidence": ("1 surely real", "2", "3", "4", "5 surely synthetic"),
}


def agreement_page(found: Agreement, origin: Origin | None, ratings: "pd.DataFrame") -> str:
    """The page as HTML.

    Args:
        found: what was measured.
        origin: hidden real images compared with synthetic ones, or None.
        ratings: from which times are drawn.
    """
    items = list(dict.fromkeys(row.item for row in found.levels))
    between = {item: [row for row in found.between if row.item == item] for item in items}
    between = {item: rows for item, rows in between.items() if rows}
    corrected = {item: [row for row in rows if row.name != PERCENT] for item, rows in between.items()}
    defined = {item: rows for item, rows in corrected.items() if all(row.value is not None for row in rows)}
    first = first_ratings(ratings)
    timed = first[first["seconds"].notna()]
    seconds = {str(rater): own["seconds"].tolist() for rater, own in timed.groupby("rater")}
    return page(
        "agreement.html",
        found=found,
        origin=origin,
        items=items,
        between=between,
        measures=list(MEASURES),
        meanings=MEANINGS,
        raters=sorted({row.of for row in found.single}),
        words=WORDS,
        shares=[(by, _shares(found.levels, by)) for by in ("rater", "round", "modality")],
        sourced=bool(first["source"].any()),
        flags=sorted({row.facts["flag"] for row in found.flags}),
        agreement_plot=embedded(forest(defined, 0.0, (-0.35, 1.05))) if defined else "",
        level_plot=embedded(_level_plot(found.levels)) if found.levels else "",
        area_plot=embedded(forest({"AUC, real or synthetic": origin.areas}, CHANCE, (0.2, 1.02)))
        if origin and origin.areas
        else "",
        time_plot=embedded(boxes(seconds, "seconds per rating")) if seconds else "",
    )


def _shares(levels: Sequence[Measured], by: str) -> list[tuple[str, str, list[Measured]]]:
    """Fractions by question and rater (or round, or modality), each in a row."""
    own = [row for row in levels if row.facts["by"] == by]
    keys = dict.fromkeys((row.item, row.of) for row in own)
    return [(item, of, [row for row in own if (row.item, row.of) == (item, of)]) for item, of in keys]


def _level_plot(levels: Sequence[Measured]) -> bytes:
    """Fractions by rater and of all, with a panel for each question."""
    panels: dict[str, dict[str, list[float]]] = {}
    for row in levels:
        if row.name == FRACTION and row.facts["by"] in ("", "rater") and row.value is not None:
            label = "all raters" if row.of == EVERYTHING and not row.facts["by"] else row.of
            panels.setdefault(row.item, {}).setdefault(label, []).append(row.value)
    return stacked(panels, {item: WORDS[item] for item in panels})
