"""Pure functions on arrays: `medloom.metrics.frechet_distance(x, y)`. Each is loaded when it is first asked for."""

from importlib import import_module
from typing import Any

# Function -> the module that holds it.
METRICS = {
    "frechet_distance": "frechet",
    "frechet_infinity": "frechet",
    "kernel_distance": "kernel",
    "squared_mmd": "kernel",
    "prdc": "neighbours",
    "vendi_score": "diversity",
    "inception_score": "inception",
    "psnr": "structural",
    "ssim": "structural",
    "ms_ssim": "structural",
    "fine_detail": "spectral",
    "dice": "structural",
    "retrieved": "retrieval",
    "accuracy": "classification",
    "macro_f1": "classification",
    "auroc": "classification",
    "auroc_by_class": "classification",
    "f1_by_class": "classification",
    "bleu": "text",
    "rouge_l": "text",
    "cider": "text",
    "cmig": "counterfactual",
    "dose_line": "effects",
    "recovered_fraction": "effects",
    "map_correlation": "effects",
    "copy_rates": "privacy",
    "authenticity": "privacy",
    "distance_ratio": "privacy",
    "membership_auc": "membership",
    "detected": "membership",
    "bootstrap_mean": "uncertainty",
    "bootstrap_interval": "uncertainty",
    "subsample_interval": "uncertainty",
    "floor": "uncertainty",
    "equivalent": "uncertainty",
    "holm": "uncertainty",
}


def __getattr__(name: str) -> Any:
    if name not in METRICS:
        raise AttributeError(f"medloom.metrics has no {name!r}; it has {', '.join(METRICS)}")
    return getattr(import_module(f"medloom.metrics.{METRICS[name]}"), name)


def __dir__() -> list[str]:
    return [*METRICS]
