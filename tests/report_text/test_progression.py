"""Progression between two reports: by hand-written cases, and against what is known of the virtual cohort."""

import pytest

from medloom.core.errors import UserError
from medloom.phantom.anatomy import visits_of
from medloom.phantom.causal import EXTENTS, Patient, evolved, make_patient
from medloom.phantom.reports import STABLE, report_of
from medloom.report_text.progression import NO_CHANGE, PROGRESSIONS, Change, inverse_of, progression_of

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
    ("Right effusion.", "Heart size is normal.", "No change."),
    ("Right effusion.", "No large effusion.", "No change."),
    ("Left consolidation.", "No new consolidation.", "No change."),
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
    ("Possible pneumonia.", "Pneumonia.", "No change."),
    ("Heart size is normal.", "Cardiomegaly.", "The heart is now enlarged."),
    ("Lungs are clear.", "Possible pneumonia.", "No change."),
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


def test_the_known_changes_of_the_virtual_cohort() -> None:
    """All of some thousand pairs agree (kind and side); patients without a lesion that changes have no change."""
    right = count = 0
    for number in range(1000):
        patient = make_patient(11, number)
        diagnosis, visits = patient.values["diagnosis"], visits_of(patient, 3)
        for index in (1, 2):
            found = progression_of(report_of(patient, visits[:index]), report_of(patient, visits[: index + 1]))
            if diagnosis not in NAMED:
                assert found.text == "No change."
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
