"""Sections, sentences, and what is left of a text without its comparisons."""

import pytest

from medloom.core.errors import UserError
from medloom.report_text.comparisons import without_comparisons
from medloom.report_text.sections import (
    count_sections,
    section,
    section_name,
    sections_of,
    sentences_of,
)

MIMIC = """ WET READ: ___ ___ 9:30 PM
  FINDINGS: small effusion.
  ______________________________________________________________________________
                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old man with cough // eval

 COMPARISON:  ___

 FINDINGS:

 LUNGS: There is no
 consolidation.
 HEART: Normal.
 CHEST: No fracture.

 IMPRESSION:

 1. No pneumonia.
 2. Nodule of 2.1 cm.
"""


def test_sections_of_a_report_as_mimic_writes_it() -> None:
    sections = sections_of(MIMIC)
    assert sections["findings"] == "LUNGS: There is no consolidation. HEART: Normal. CHEST: No fracture."
    assert sections["impression"] == "1. No pneumonia. 2. Nodule of 2.1 cm."
    assert sections["wet read"] == "___ ___ 9:30 PM FINDINGS: small effusion."
    assert sections["indication"] == "___ year old man with cough // eval"
    assert (sections["examination"], sections["comparison"]) == ("CHEST (PORTABLE AP)", "___")


def test_a_study_name_stands_for_findings_only_where_there_are_none() -> None:
    study = "FINAL REPORT\n INDICATION: Cough.\n\n PA AND LATERAL CHEST, ___ AT 8:33 A.M.: The lungs are clear.\n\n"
    assert sections_of(f"{study} IMPRESSION: Normal.") == {
        "indication": "Cough.",
        "examination": "PA AND LATERAL CHEST, ___ AT 8:33 A.M.",
        "findings": "The lungs are clear.",
        "impression": "Normal.",
    }
    both = sections_of("CHEST, PA AND LATERAL: Two views.\nFINDINGS: Clear.")
    assert both == {"examination": "CHEST, PA AND LATERAL Two views.", "findings": "Clear."}


def test_paragraphs_after_the_history_are_findings_where_nothing_else_is() -> None:
    sections = sections_of(
        "FINAL REPORT\n CHEST RADIOGRAPHS\n\n HISTORY: Fever.\n\n Lungs are clear.\n\n Heart normal."
    )
    assert sections["indication"] == "Fever."
    assert sections["findings"] == "Lungs are clear. Heart normal."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Findings: Small. Impression: Normal.", {"findings": "Small.", "impression": "Normal."}),
        ("No heading here.", {"findings": "No heading here."}),
        ("INTERPRETATION: a.\nCONCLUSION: b.", {"findings": "a.", "impression": "b."}),
        ("FINDINGS AND IMPRESSION: a. ADDENDUM: b. RECOMMENDATION: c", None),
        ("IMPRESSION: a.\nFINDINGS: b.\nIMPRESSION: c.", {"impression": "a. c.", "findings": "b."}),
        ("FINDINGS:\n\nIMPRESSION: a.", {"impression": "a."}),
        ("ADDENDUM: x.\nFINDINGS: y.\nFINAL REPORT\nFINDINGS: z.", {"addendum": "x. FINDINGS: y.", "findings": "z."}),
        ("Comparison with the prior study shows no change.", None),
        ("", {}),
    ],
)
def test_headings(text: str, expected: dict[str, str] | None) -> None:
    if expected is None:
        assert sections_of(text)["findings"]
    else:
        assert sections_of(text) == expected


def test_the_first_wanted_section_that_is_there() -> None:
    sections = {"findings": "a", "comparison": "b"}
    assert section(sections, ("impression", "findings")) == "a"
    assert section(sections, ("impression",)) is None
    with pytest.raises(UserError, match="did you mean 'findings'"):
        section(sections, ("finding",))
    assert section_name("Clinical  history:") == "indication"
    assert section_name("LUNGS") is None


def test_counts_of_sections() -> None:
    reports = [{"findings": "a", "impression": ""}, {"findings": "b", "indication": "c"}]
    assert count_sections(reports) == {"reports": 2, "indication": 1, "findings": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nodule of 2.1 cm. Heart normal.", ["Nodule of 2.1 cm.", "Heart normal."]),
        ("1. No effusion 2. Heart normal. 3.No mass", ["No effusion", "Heart normal.", "No mass"]),
        ("Clear.. Seen at level T 12. No fracture.", ["Clear.", "Seen at level T 12.", "No fracture."]),
        ("Told to Dr. Smith at 3 p.m. by phone. Done.", ["Told to Dr. Smith at 3 p.m. by phone.", "Done."]),
        ("Effusion vs. atelectasis.Lungs low", ["Effusion vs. atelectasis.", "Lungs low"]),
        ("heart normal. lungs clear", ["heart normal.", "lungs clear"]),
        ("No effusion\n\nHeart\nnormal", ["No effusion", "Heart normal"]),
        ("- no mass\n- no effusion", ["no mass", "no effusion"]),
        ("1.", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert list(sentences_of(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stable cardiomegaly.", "Cardiomegaly."),
        ("New right effusion. No pneumothorax.", "Right effusion. No pneumothorax."),
        ("A new opacity is seen.", "An opacity is seen."),
        ("Unchanged since the prior study.", ""),
        ("The left effusion has resolved. Lungs clear.", "Lungs clear."),
        ("There is a small left effusion, unchanged since the prior study.", "There is a small left effusion."),
        ("Compared with the prior study of ___, there is a right effusion.", "There is a right effusion."),
        ("Heart size is unchanged.", ""),
        ("Interval increase in the right effusion.", "Right effusion."),
        ("The heart remains enlarged, but the edema has improved.", "The heart is enlarged, but the edema is present."),
        ("Left lower lobe consolidation has developed.", "Left lower lobe consolidation is present."),
        ("There are increased interstitial markings.", "There are increased interstitial markings."),
        ("Prior sternotomy. Previous granulomatous disease.", "Prior sternotomy. Previous granulomatous disease."),
        ("No significant change.", ""),
    ],
)
def test_words_on_earlier_studies_are_left_out(text: str, expected: str) -> None:
    assert without_comparisons(text) == expected
