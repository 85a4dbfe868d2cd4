"""Radiology reports generated from the ground truth of a visit, in varied wording, with negations and sides."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from medloom.core.seeds import numpy_generator
from medloom.phantom.anatomy import Visit, anatomy_of
from medloom.phantom.causal import NOT_APPLICABLE, Patient, evolved

Choice = TypeVar("Choice")
ENLARGED = 0.5  # heart ratio above which a heart is called enlarged
EMPHYSEMA_VISIBLE = 0.10
STABLE = 0.15  # relative change of severity below which a report calls it stable
RESOLVED = "the abnormality of the previous examination has resolved"

PRESENT = {
    "IPF": (
        "{extent} subpleural and basal reticulation with honeycombing",
        "peripheral reticular opacities with honeycomb cysts, {extent}, worst at the bases",
    ),
    "CTD-ILD": (
        "{extent} patchy ground-glass opacity with subpleural sparing",
        "ground-glass opacities in both lower lobes, {extent}, sparing the subpleural lung",
    ),
    "pneumonia": (
        "{extent} consolidation in the {side} lung with air bronchograms",
        "airspace consolidation of the {side} lung, {extent}",
    ),
    "effusion": (
        "{size} {side} pleural effusion",
        "there is a {size} pleural effusion on the {side}",
        "layering pleural fluid on the {side}, {size} in amount",
    ),
    "nodule": (
        "solitary {side} pulmonary nodule of {millimetres} mm",
        "a solid nodule measuring {millimetres} mm in the {side} lung",
    ),
}
ABSENT = {
    "effusion": ("no pleural effusion", "the pleural spaces are clear", "no evidence of pleural fluid"),
    "pneumonia": ("no consolidation", "no focal airspace disease", "the lungs show no consolidation"),
    "nodule": ("no suspicious nodule", "no pulmonary nodule is seen"),
    "IPF": ("no fibrosis", "no reticulation or honeycombing"),
}
NO_OTHER_SIDE = ("no effusion on the {other}", "the {other} pleural space is clear")
HEART = {
    True: ("the heart is enlarged", "cardiomegaly", "enlarged cardiac silhouette"),
    False: ("heart size is normal", "no cardiomegaly", "the heart is not enlarged"),
}
EMPHYSEMA = {
    True: ("upper-lobe predominant emphysema, {extent}", "{extent} centrilobular emphysema"),
    False: ("no emphysema",),
}
NORMAL = ("No acute cardiopulmonary abnormality.", "Normal chest CT.", "Unremarkable examination of the chest.")
SIZES = {"mild": "small", "moderate": "moderate", "severe": "large"}
IMPRESSIONS = {
    "IPF": ("Usual interstitial pneumonia pattern, {extent}.", "Fibrotic lung disease, probable IPF ({extent})."),
    "CTD-ILD": ("Nonspecific interstitial pneumonia pattern, {extent}.", "Interstitial lung disease, {extent}."),
    "pneumonia": ("Pneumonia of the {side} lung, {extent}.", "{side} lung pneumonia."),
    "effusion": ("{size} {side} pleural effusion.",),
    "nodule": ("{side} pulmonary nodule, {millimetres} mm.",),
    "cardiomegaly": ("Cardiomegaly.", "Enlarged heart."),
    "emphysema": ("Emphysema, {extent}.",),
}
CHANGES = {
    "more": ("increased since the previous examination", "larger than before"),
    "less": ("decreased since the previous examination", "smaller than before"),
    "same": ("unchanged since the previous examination", "stable"),
}


def report_of(patient: Patient, visits: Sequence[Visit]) -> str:
    """The report of the last visit, compared with the visit before it, if any.

    Returns:
        "Findings: ... Impression: ...", true to the image; a lesion that has cleared is not reported as present.
    """
    rng = numpy_generator("phantom", "report", patient.cohort, patient.number, visits[-1].index)
    now = evolved(patient, visits[-1].size)
    before = evolved(patient, visits[-2].size) if len(visits) > 1 else None
    values = now.values
    side, diagnosis, extent = str(values["side"]), str(values["diagnosis"]), str(values["extent"])
    words = {
        # Emphysema of smokers without a diagnosis is mild.
        "extent": "mild" if extent == NOT_APPLICABLE else extent,
        "size": SIZES.get(extent, ""),
        "side": side,
        "other": {"left": "right", "right": "left"}.get(side, ""),
        "millimetres": str(round(2 * anatomy_of(now, visits[-1]).nodule)),
    }
    visible = [diagnosis] if diagnosis in PRESENT else []
    enlarged, emphysema = values["heart_ratio"] > ENLARGED, values["emphysema"] > EMPHYSEMA_VISIBLE
    change = ""
    if before is not None and before.values["diagnosis"] in PRESENT:
        change = RESOLVED
        if diagnosis != "none":
            ratio = values["severity"] / before.values["severity"]
            change = _one(CHANGES["same" if abs(ratio - 1) < STABLE else "more" if ratio > 1 else "less"], rng)
    sentences = [_one(PRESENT[name], rng) + (f", {change}" if change else "") for name in visible]
    if change == RESOLVED:
        sentences.append(change)
    sentences += [_one(ABSENT[name], rng) for name in ABSENT if name not in visible and rng.uniform() < 0.7]
    if "effusion" in visible:
        sentences.append(_one(NO_OTHER_SIDE, rng))
    sentences.append(_one(HEART[enlarged], rng))
    if emphysema or rng.uniform() < 0.3:
        sentences.append(_one(EMPHYSEMA[emphysema], rng))
    findings = [_sentence(sentences[index], words) for index in rng.permutation(len(sentences))]
    named = visible + ["cardiomegaly"] * enlarged + ["emphysema"] * (emphysema and not visible)
    impressions = [_sentence(_one(IMPRESSIONS[name], rng).rstrip("."), words) for name in named]
    return f"Findings: {' '.join(findings)} Impression: {' '.join(impressions) or _one(NORMAL, rng)}"


def _sentence(text: str, words: dict[str, str]) -> str:
    said = text.format(**words).strip()
    return f"{said[:1].upper()}{said[1:]}."


def _one(options: Sequence[Choice], rng: np.random.Generator) -> Choice:
    return options[int(rng.integers(len(options)))]
