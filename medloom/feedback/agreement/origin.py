"""Can raters tell hidden real images from synthetic ones?"""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.feedback.agreement.measure import first_ratings
from medloom.feedback.agreement.table import SCALES, UNIT
from medloom.feedback.measured import Measured, over_units
from medloom.metrics import auroc, auroc_interval, multi_reader_analysis, multi_reader_bootstrap, proportion_interval

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
AREA, POOLED, BY_SOURCE, CHANCE = "AUC", "mean of readers", "fraction by source", 0.5
# Of each class, for an area.
FEWEST = 2


@dataclass
class Origin:
    """What was measured.

    Attributes:
        score: which answers were compared, in words.
        areas: of each rater, and their mean.
        confusion: fraction of each answer among real and among synthetic images.
        notes: what a reader has to know.
    """

    score: str
    areas: list[Measured] = field(default_factory=list)
    confusion: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measure_origin(ratings: "pd.DataFrame", seed: int, resamples: int = 1000) -> Origin | None:
    """Compare ratings of hidden real images with those of synthetic ones; None without real images among them.

    The score of an image is how surely a rater takes it for synthetic: its confidence, or 4 less its realism. An area
    of 0.5 means that the rater cannot tell.

    Args:
        ratings: see `medloom.feedback.agreement.table.checked_ratings`.
        seed: of the bootstrap where not every rater rated every image.
        resamples: number of them.
    """
    first = first_ratings(ratings)
    first = first[first["source"].isin(("real", "synthetic"))]
    item = next((name for name in ("confidence", "realism") if name in first and first[name].notna().any()), None)
    if item is None:
        return None
    known = first[first[item].notna()]
    if set(known["source"]) != {"real", "synthetic"}:
        return None
    known = known.assign(score=known[item] if item == "confidence" else SCALES["realism"][-1] + 1 - known[item])
    found = Origin("confidence" if item == "confidence" else "4 less realism")

    for rater, own in known.groupby("rater"):
        truth = (own["source"] == "synthetic").to_numpy(np.float64)
        if min(truth.sum(), (1 - truth).sum()) < FEWEST:
            found.notes.append(f"{rater} rated fewer than {FEWEST} real or synthetic images; no AUC.")
            continue
        scores, units = own["score"].to_numpy(np.float64), list(own[UNIT])
        interval = over_units(partial(auroc_interval, truth, scores, units), auroc(truth, scores), units)
        found.areas.append(
            Measured.from_interval(AREA, interval, of=str(rater), real=int((1 - truth).sum()), ratings=len(own))
        )
    if len(found.areas) > 1:
        found.areas.append(_pooled(found, known, seed, resamples))
    for source in ("real", "synthetic"):
        part = known[known["source"] == source]
        units = list(part[UNIT])
        for level in SCALES[item]:
            hits = (part[item] == level).to_numpy(np.float64)
            share = over_units(partial(proportion_interval, hits, units), float(hits.mean()), units)
            found.confusion.append(
                Measured.from_interval(BY_SOURCE, share, of=source, item=item, level=level, ratings=len(part))
            )
    return found


def _pooled(found: Origin, known: "pd.DataFrame", seed: int, resamples: int) -> Measured:
    """The mean area of the raters: for others too if every one rated every image, by a bootstrap otherwise."""
    raters = [measured.of for measured in found.areas]
    wide = known[known["rater"].isin(raters)].pivot(index=["round", "item"], columns="rater", values="score")
    sources = known.drop_duplicates(["round", "item"]).set_index(["round", "item"])["source"]
    truth = (sources.loc[wide.index] == "synthetic").to_numpy(np.float64)
    scores = wide.to_numpy(np.float64).T[None]
    if not np.isnan(scores).any():
        mean = multi_reader_analysis(truth, scores).means[0]
        p = mean.p_value(CHANCE)
        measured = Measured.from_interval(AREA, mean.interval(), of=POOLED, p=p, method="Obuchowski-Rockette")
        if known[UNIT].nunique() < len(truth):
            found.notes.append("The mean AUC takes the images of one patient as independent; those of raters do not.")
    else:
        interval = multi_reader_bootstrap(truth, scores, seed=seed, n=resamples).means[0]
        measured = Measured.from_interval(AREA, interval, of=POOLED, method="bootstrap")
        found.notes.append("Not every rater rated every image: the mean AUC has a bootstrap interval over both.")
    return measured
