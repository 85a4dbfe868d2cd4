"""Metrics as pure functions on arrays: `medloom.metrics.frechet_distance(x, y)`.

A metric is one function and one row of METRICS. A function of your own gets a row too:

    medloom.metrics.METRICS["my_distance"] = MetricInfo(my_distance, FEATURES, "lower", 0.0)

It is then found by name, and `medloom evaluate images --metrics my_distance` measures it with interval and reference.

Examples:
    >>> import numpy as np
    >>> import medloom.metrics
    >>> truth, predicted = np.array(["effusion", "none"]), np.array(["effusion", "nodule"])
    >>> medloom.metrics.accuracy(truth, predicted)
    0.5
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from medloom.core.lookup import did_you_mean, look_up

FEATURES = "real features (n, d), synthetic features (m, d)"
IMAGES = "two images (C, ...), their data range"
EFFECTS = "true and estimated effects"
CLASSES = "labels, predictions"
TEXTS = "generated texts, reference texts"
RATINGS = "ratings (items, raters)"


@dataclass(frozen=True)
class MetricInfo:
    """A row of METRICS.

    Attributes:
        function: computes the metric; or the name of the module of this package that holds it.
        takes: its arguments. A function of FEATURES returns a float and can be measured by `medloom evaluate images`.
        better: lower or higher; empty if neither is better.
        low: smallest possible value.
        high: largest possible value.
        source: of the definition.

    Examples:
        >>> info = medloom.metrics.METRICS["ssim"]
        >>> info.better, info.low, info.high
        ('higher', -1.0, 1.0)
    """

    function: Callable[..., Any] | str
    takes: str
    better: str = ""
    low: float = -math.inf
    high: float = math.inf
    source: str = ""


METRICS: dict[str, MetricInfo] = {
    "frechet_distance": MetricInfo("frechet", FEATURES, "lower", 0.0, source="Heusel 2017"),
    "frechet_infinity": MetricInfo("frechet", f"{FEATURES}, seed", "lower", source="Chong, Forsyth 2020"),
    "squared_mmd": MetricInfo("kernel", FEATURES, "lower", source="Gretton 2012"),
    "kernel_distance": MetricInfo("kernel", f"{FEATURES}, seed", "lower", source="Binkowski 2018"),
    "prdc": MetricInfo("neighbours", f"{FEATURES}, k", "higher", 0.0, source="Kynkaanniemi 2019, Naeem 2020"),
    "vendi_score": MetricInfo("diversity", "features (n, d)", "higher", 1.0, source="Friedman, Dieng 2023"),
    "inception_score": MetricInfo("inception", "class probabilities", "higher", 1.0, source="Salimans 2016"),
    "psnr": MetricInfo("structural", IMAGES, "higher"),
    "ssim": MetricInfo("structural", IMAGES, "higher", -1.0, 1.0, "Wang 2004"),
    "ms_ssim": MetricInfo("structural", IMAGES, "higher", 0.0, 1.0, "Wang 2003"),
    "fine_detail": MetricInfo("spectral", "an image (C, ...)", "", 0.0, 1.0, "Welch 1967"),
    "dice": MetricInfo("structural", "two regions", "higher", 0.0, 1.0, "Dice 1945"),
    "retrieved": MetricInfo("retrieval", "query and gallery embeddings, their keys", "higher", 0.0, 1.0),
    "accuracy": MetricInfo("classification", CLASSES, "higher", 0.0, 1.0),
    "macro_f1": MetricInfo("classification", CLASSES, "higher", 0.0, 1.0),
    "f1_by_class": MetricInfo("classification", CLASSES, "higher", 0.0, 1.0),
    "auroc": MetricInfo("classification", "labels, scores", "higher", 0.0, 1.0),
    "auroc_by_class": MetricInfo("classification", "labels, scores", "higher", 0.0, 1.0),
    "bleu": MetricInfo("text", TEXTS, "higher", 0.0, 1.0, "Papineni 2002"),
    "rouge_l": MetricInfo("text", TEXTS, "higher", 0.0, 1.0, "Lin 2004"),
    "cider": MetricInfo("text", TEXTS, "higher", 0.0, 10.0, "Vedantam 2015"),
    "cmig": MetricInfo(
        "counterfactual", "AUROC of pathology and race, correlation of age", "higher", 0.0, 1.0, "Gu 2023"
    ),
    "dose_line": MetricInfo("effects", f"{EFFECTS}, doses, patients", source="Wald 1940"),
    "recovered_fraction": MetricInfo("effects", f"{EFFECTS}, patients"),
    "map_correlation": MetricInfo("effects", "true and estimated map, mask", "higher", -1.0, 1.0),
    "copy_rates": MetricInfo("privacy", "training, held-out and synthetic embeddings, patients", "lower", -1.0, 1.0),
    "authenticity": MetricInfo(
        "privacy", "training and synthetic embeddings, patients", "higher", 0.0, 1.0, "Alaa 2022"
    ),
    "distance_ratio": MetricInfo("privacy", "training, held-out and synthetic embeddings", "higher", 0.0),
    "membership_auc": MetricInfo(
        "membership", "scores of members and others, patients", "lower", 0.0, 1.0, "Carlini 2022"
    ),
    "detected": MetricInfo("membership", "scores of members and others", "lower", 0.0, 1.0, "Carlini 2022"),
    "detected_by_chance": MetricInfo("membership", "scores of members and others, patients", "", 0.0, 1.0),
    "percent_agreement": MetricInfo("agreement", RATINGS, "higher", 0.0, 1.0),
    "cohen_kappa": MetricInfo("agreement", RATINGS, "higher", -1.0, 1.0, "Cohen 1960, 1968"),
    "fleiss_kappa": MetricInfo("agreement", RATINGS, "higher", -1.0, 1.0, "Fleiss 1971, Gwet 2014"),
    "gwet_ac": MetricInfo("agreement", RATINGS, "higher", -1.0, 1.0, "Gwet 2008, 2014"),
    "krippendorff_alpha": MetricInfo("agreement", RATINGS, "higher", -1.0, 1.0, "Krippendorff 2011"),
    "rest_correlation": MetricInfo("rank_agreement", RATINGS, "higher", -1.0, 1.0, "Spearman 1904"),
}
# Intervals and tests, which are no metrics -> the module that holds them.
STATISTICS = (
    dict.fromkeys(
        (
            *("bootstrap_mean", "bootstrap_interval", "student_mean", "subsample_interval", "floor"),
            *("difference", "p_value", "equivalent", "holm"),
        ),
        "uncertainty",
    )
    | dict.fromkeys(("proportion_interval", "proportion_ratio"), "proportions")
    | dict.fromkeys(("auroc_interval", "auroc_difference"), "areas")
    | dict.fromkeys(("agreement_interval", "rest_correlation_intervals"), "agreement_intervals")
    | dict.fromkeys(("power_of_difference", "power_of_equivalence"), "reader_power")
    | dict.fromkeys(("multi_reader_analysis", "obuchowski_rockette"), "multi_reader")
    | {"compare_sets": "set_comparison", "multi_reader_bootstrap": "reader_bootstrap"}
)


def metric(name: str) -> Callable[..., Any]:
    """The metric of a name.

    Args:
        name: a row of METRICS.

    Raises:
        UserError: no such metric; names the closest one.

    Examples:
        >>> dice = medloom.metrics.metric("dice")
        >>> round(dice(np.array([True, True]), np.array([True, False])), 2)
        0.67
    """
    function = look_up(METRICS, name, "metric").function
    found: Callable[..., Any] = _load(function, name) if isinstance(function, str) else function
    return found


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"medloom.metrics.{module}"), name)


def __getattr__(name: str) -> Any:
    if name in METRICS:
        return metric(name)
    if name in STATISTICS:
        return _load(STATISTICS[name], name)
    hint = did_you_mean(name, __dir__())
    raise AttributeError(f"medloom.metrics has no {name!r}{hint or '.'} It has {', '.join(__dir__())}.")


def __dir__() -> list[str]:
    return [*METRICS, *STATISTICS]
