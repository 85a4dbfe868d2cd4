"""Progression between two reports: by hand-written cases, and against what is known of the virtual cohort."""

import csv
import hashlib
import json
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from medloom.core.errors import UserError
from medloom.phantom.anatomy import visits_of
from medloom.phantom.causal import EXTENTS, Patient, evolved, make_patient
from medloom.phantom.reports import STABLE, report_of
from medloom.report_text.progression import (
    CHANGED,
    NO_CHANGE,
    NOT_SAID,
    PROGRESSIONS,
    UNCHANGED,
    Change,
    inverse_of,
    progression_of,
)

NAMED = {
    "effusion": "pleural effusion",
    "pneumonia": "consolidation",
    "nodule": "nodule",
    "IPF": "interstitial disease",
    "CTD-ILD": "ground-glass opacity",
}
CASES = [
    ("Right effusion.", "No pleural effusion.", "The right pleural effusion has resolved."),
    ("Right effusion.", "The pleural spaces are clear.", "The right pleural effusion has resolved."),
    ("Right effusion.", "The effusion has resolved.", "The right pleural effusion has resolved."),
    ("Bilateral effusions.", "The effusions have resolved.", "The bilateral pleural effusions have resolved."),
    ("Bilateral effusions.", "The left effusion has resolved.", "The left pleural effusion has resolved."),
    ("Right effusion.", "Heart size is normal.", ""),
    ("Right effusion.", "No large effusion.", ""),
    ("Left consolidation.", "No new consolidation.", ""),
    ("Right effusion.", "No change.", "No change."),
    (
        "Small effusion on the right.",
        "Large right effusion.",
        "The right pleural effusion has increased and is now large.",
    ),
    (
        "Large right effusion, unchanged.",
        "Small effusion.",
        "The right pleural effusion has decreased and is now small.",
    ),
    ("Right effusion.", "Right effusion, smaller than before.", "The right pleural effusion has decreased."),
    ("No effusion.", "Small right effusion.", "A new small right pleural effusion has appeared."),
    ("Heart size is normal.", "Stable right effusion.", "No change."),
    ("Possible pneumonia.", "Pneumonia.", ""),
    ("Heart size is normal.", "Cardiomegaly.", "The heart is now enlarged."),
    ("Lungs are clear.", "Possible pneumonia.", ""),
    (
        "Right effusion. Cardiomegaly.",
        "No effusion. New left consolidation. Stable cardiomegaly.",
        "The right pleural effusion has resolved. New left consolidation has appeared. The heart is unchanged in size.",
    ),
]


@pytest.mark.parametrize(("before", "after", "text"), CASES)
def test_instruction(before: str, after: str, text: str) -> None:
    assert progression_of(before, after).text == text


def test_changes_are_structured() -> None:
    changes = progression_of("Small right effusion.", "Moderate right effusion. New left nodule.").changes
    assert changes == (
        Change("pleural effusion", "grew", "right", "moderate"),
        Change("nodule", "appeared", "left"),
    )


def test_the_impression_as_it_is() -> None:
    assert PROGRESSIONS["impression"]("", "FINDINGS: a. IMPRESSION: No  change.").text == "No change."
    with pytest.raises(UserError, match="no impression"):
        PROGRESSIONS["impression"]("", "FINDINGS: a.")


def known_change(patient: Patient, before: float, after: float) -> str | None:
    """What the lesion did between two visits: its extent as the reports name it, then its severity.

    Near a border of extents a report may call a lesion moderate after mild, and unchanged: sizes decide, as in the
    rules.
    """
    earlier, later = evolved(patient, before).values, evolved(patient, after).values
    if earlier["diagnosis"] == "none":
        return None
    if later["diagnosis"] == "none":
        return "resolved"
    # A nodule is reported in millimetres, without an extent.
    if patient.values["diagnosis"] != "nodule" and earlier["extent"] != later["extent"]:
        return "grew" if EXTENTS.index(later["extent"]) > EXTENTS.index(earlier["extent"]) else "shrank"
    ratio = later["severity"] / earlier["severity"]
    return "stayed" if abs(ratio - 1) < STABLE else "grew" if ratio > 1 else "shrank"


@pytest.mark.slow
def test_the_known_changes_of_the_virtual_cohort() -> None:
    """All of some thousand pairs agree (kind and side); patients without a lesion that changes have no change."""
    right = count = 0
    for number in range(1000):
        patient = make_patient(11, number)
        diagnosis, visits = patient.values["diagnosis"], visits_of(patient, 3)
        for index in (1, 2):
            found = progression_of(report_of(patient, visits[:index]), report_of(patient, visits[: index + 1]))
            if diagnosis not in NAMED:
                # An enlarged heart that both reports name is not said to be unchanged.
                assert found.outcome == UNCHANGED or (diagnosis == "cardiomegaly" and found.outcome == NOT_SAID)
                continue
            if (known := known_change(patient, visits[index - 1].size, visits[index].size)) is None:
                continue
            side = patient.values["side"]
            changes = [change for change in found.changes if change.finding == NAMED[diagnosis]]
            sided = side not in ("left", "right") or [change.side for change in changes] == [side]
            right += [change.kind for change in changes] == [known] and sided
            count += 1
    assert count > 900
    assert right / count >= 0.98, f"{right} of {count}"


@pytest.mark.parametrize(
    ("before", "after", "there", "back"),
    [
        (
            "Small left pleural effusion.",
            "Large left pleural effusion.",
            "The left pleural effusion has increased and is now large.",
            "The left pleural effusion has decreased and is now small.",
        ),
        (
            "Left nodule.",
            "The left nodule has increased since the previous examination.",
            "The left nodule has increased.",
            "The left nodule has decreased.",
        ),
        (
            "Moderate right pleural effusion.",
            "The right pleural effusion has resolved.",
            "The right pleural effusion has resolved.",
            "A new moderate right pleural effusion has appeared.",
        ),
        ("No pneumothorax.", "New left pneumothorax.", None, "The left pneumothorax has resolved."),
        ("Small left pleural effusion.", "Unchanged small left pleural effusion.", NO_CHANGE, NO_CHANGE),
    ],
)
def test_the_way_back_is_the_inverse(before: str, after: str, there: str | None, back: str) -> None:
    forward = progression_of(before, after)
    assert there is None or forward.text == there
    assert inverse_of(forward).text == back
    assert inverse_of(inverse_of(forward)).text == forward.text


@pytest.mark.parametrize(
    ("before", "after", "outcome", "text"),
    [
        ("abc", "xyz", NOT_SAID, ""),
        ("Large left effusion.", "Interval worsening.", CHANGED, "The findings have worsened."),
        ("Bilateral consolidation.", "Improved.", CHANGED, "The findings have improved."),
        ("Lungs are clear.", "The disease has recurred.", CHANGED, "The findings have recurred."),
        ("Patchy opacities.", "Radiological progression in all zones.", CHANGED, "The findings have worsened."),
        (
            "Patchy opacities.",
            "Minor regression in the appearances of the lungs.",
            CHANGED,
            "The findings have improved.",
        ),
        ("Right effusion.", "The patient deteriorated. Right effusion.", NOT_SAID, ""),
        ("Right effusion.", "Increasing oxygen requirements. Right effusion.", NOT_SAID, ""),
        ("Right effusion.", "Decreased lung volumes. Right effusion.", NOT_SAID, ""),
        ("Right effusion.", "Improved inspiration. Right effusion.", NOT_SAID, ""),
        ("Right effusion.", "No significant interval change.", UNCHANGED, NO_CHANGE),
        ("Right effusion.", "There is no sign of regression in the lung.", NOT_SAID, ""),
        ("Infiltrate.", "Worsening mid and lower infiltrate.", CHANGED, "The consolidation has increased."),
        ("The lungs are clear.", "No acute cardiopulmonary abnormality.", UNCHANGED, NO_CHANGE),
        ("Calcified granuloma.", "Stable calcified granuloma.", UNCHANGED, NO_CHANGE),
        ("No effusion.", "Effusion after pneumonia of the left lung. No effusion.", CHANGED, None),
    ],
)
def test_three_outcomes(before: str, after: str, outcome: str, text: str | None) -> None:
    found = progression_of(before, after)
    assert found.outcome == outcome and (text is None or found.text == text)
    assert inverse_of(found).outcome == outcome


def test_the_overall_way_back() -> None:
    worse, recurred = (
        progression_of("Opacities.", text) for text in ("Interval worsening.", "The disease has recurred.")
    )
    assert inverse_of(worse).text == "The findings have improved."
    assert inverse_of(recurred).text == "The findings have resolved."


@pytest.mark.parametrize("degree", ["Marked improvement of", "Slight interval decrease in", "Moderate progression of"])
def test_a_degree_of_change_is_no_size(degree: str) -> None:
    (change,) = progression_of("Left pleural effusion.", f"{degree} the left pleural effusion.").changes
    assert change.size is None and change.kind in ("shrank", "grew")


def test_a_history_that_notes_repeat_is_no_finding() -> None:
    history = "A 60-year-old patient was treated for pneumonia."
    found = progression_of(f"{history} The lungs are clear.", f"{history} New left infiltrate.")
    assert found.text == "New left consolidation has appeared."


NOTES = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def labelled_pairs() -> list[tuple[str, str, str, bool]]:
    """Pairs of real reports, what a reader says of them, and whether it is worse; the labels came before the rules."""
    labels = json.loads(Path(__file__).with_name("progression_labels.json").read_text())
    with (NOTES / "cxr_pairs.csv").open(encoding="utf-8") as stream:
        notes = {(row["prior_Text"].strip(), row["Text"].strip()) for row in csv.DictReader(stream)}
    pairs = []
    for before, after in notes:
        if label := labels["notes"].get(hashlib.sha256(f"{before}\x1f{after}".encode()).hexdigest()[:16]):
            pairs.append((before, after, *label))
    with tarfile.open(NOTES / "reports" / "NLMCXR_reports.tgz") as archive:

        def report(number: str) -> str:
            stream = archive.extractfile(f"ecgen-radiology/{number}.xml")
            assert stream is not None
            tree = ElementTree.fromstring(stream.read())
            texts = {one.get("Label"): (one.text or "").strip() for one in tree.iter("AbstractText")}
            return f"FINDINGS: {texts.get('FINDINGS', '')} IMPRESSION: {texts.get('IMPRESSION', '')}"

        reports = {number: report(number) for *numbers, _ in labels["reports"] for number in numbers}
    return [*pairs, *((reports[before], reports[after], label, False) for before, after, label in labels["reports"])]


@pytest.mark.skipif(not (NOTES / "cxr_pairs.csv").exists(), reason="real reports are not part of the project")
def test_rules_agree_with_a_reader_of_real_reports() -> None:
    pairs = labelled_pairs()
    assert len(pairs) == 100
    outcomes = [progression_of(before, after).outcome for before, after, _, _ in pairs]
    right = sum(found == label for found, (_, _, label, _) in zip(outcomes, pairs, strict=True))
    assert right >= 90, f"{right} of 100"
    assert not [
        before for found, (before, _, _, worse) in zip(outcomes, pairs, strict=True) if worse and found == UNCHANGED
    ]


@pytest.mark.parametrize(
    ("before", "after", "outcome", "text"),
    [
        ("Bibasilar opacities.", "Decreased lung volumes accentuate the bibasilar opacities.", NOT_SAID, ""),
        ("Opacities.", "Opacities have neither increased nor decreased.", UNCHANGED, NO_CHANGE),
        ("Edema.", "Failure of pulmonary edema to improve.", None, None),
        ("Pneumonia.", "Findings have failed to improve.", None, None),
        ("Pneumonia.", "Little improvement in the pneumonia.", UNCHANGED, NO_CHANGE),
        ("Pneumonia.", "Follow-up chest radiograph recommended to document resolution.", NOT_SAID, ""),
        ("RLL pneumonia.", "Recommend follow-up to ensure resolution of RLL pneumonia.", NOT_SAID, ""),
        ("Pneumonia.", "If worsening, CT chest is advised.", NOT_SAID, ""),
        ("Edema.", "Edema likely to improve with diuresis.", NOT_SAID, ""),
        ("Clear lungs.", "New opacity in the left lower lobe is not excluded.", NOT_SAID, ""),
        ("Mild edema.", "Previously mild edema is now severe.", CHANGED, "The edema has increased and is now large."),
        (
            "Moderate right effusion.",
            "Right effusion has decreased from large to moderate.",
            CHANGED,
            "The right pleural effusion has decreased and is now moderate.",
        ),
        (
            "Large left effusion.",
            "The large left effusion has decreased and is now small.",
            CHANGED,
            "The left pleural effusion has decreased and is now small.",
        ),
        ("Bilateral pneumonia.", "Interval clearing of the right lung; the left is worse.", NOT_SAID, ""),
        ("Right effusion.", "Right effusion unchanged. Chest drain in increased depth.", UNCHANGED, NO_CHANGE),
    ],
)
def test_words_of_change_that_mean_something_else(
    before: str, after: str, outcome: str | None, text: str | None
) -> None:
    found = progression_of(before, after)
    assert found.outcome == outcome if outcome else found.outcome != CHANGED
    assert text is None or found.text == text
