"""What in a text may identify someone: each kind is found and counted, and clinical wording is not."""

from pathlib import Path

import pytest

from medloom.core.types import Condition, Sample
from medloom.data.identifying_texts import identifying_notes, kinds_in

DATE, NUMBER, ADDRESS, PHONE, NAME, MARK = (
    "a date",
    "a long number",
    "an address",
    "a telephone number",
    "a titled name",
    "a mark of de-identification",
)


@pytest.mark.parametrize(
    "text",
    [
        "3. März 2019",
        "12. Januar 2020",
        "3 mars 2019",
        "1er août 2019",
        "March 3rd, 2019",
        "3rd of March 2019",
        "3 de marzo de 2019",
        "3 maart 2019",
        "03-MAR-2019",
        "3.Dez.2019",
        "3. 3. 2019",
        "2019-03-03",
        "3/3/2019",
    ],
)
def test_dates_of_several_languages(text: str) -> None:
    assert kinds_in(f"Seen on {text} with cough.") == [DATE]


@pytest.mark.parametrize(
    "text",
    [
        "Dr. HUBER",
        "DR. HUBER",
        "Dr.Huber",
        "Dr. med. Österreicher",
        "Dr. A. Huber",
        "Prof. O'Brien",
        "Frau Müller",
        "Patient: Mueller Hans",
        "Patient name: Mueller, Hans",
    ],
)
def test_names_after_titles(text: str) -> None:
    assert kinds_in(f"Report of {text}.") == [NAME]


@pytest.mark.parametrize(
    "text", ["030 1234567", "030/1234567", "(030) 1234567", "(555) 123-4567", "+49301234567", "+49 30 1234-567"]
)
def test_a_telephone_number_is_no_other_long_number(text: str) -> None:
    assert kinds_in(f"Call {text} today.") == [PHONE]


def test_numbers_after_their_name() -> None:
    assert kinds_in("MRN: A1234") == kinds_in("Patient ID 12345") == kinds_in("film 8834215") == [NUMBER]


@pytest.mark.parametrize(
    "text",
    [
        "Patient: Intubated. Sex: Male.",
        "Discussed with Dr. by telephone. Dr. performed it.",
        "Heart 12 x 14 cm, 3 of 2019 voxels, T2-weighted, TE 90 ms, HU 0.25.",
        "Nodule of 3 mm in 2019, unchanged since March 2019 and may 2 weeks later resolve.",
        "MR. Brain and DR CHEST, MS lesions (20) 12, (35) 7.",
    ],
)
def test_clinical_wording_names_nobody(text: str) -> None:
    assert kinds_in(text) == []


def test_a_text_counts_for_every_kind_in_it() -> None:
    text = "MRN 8834215, seen 12.03.2019 by Dr. ZZDOC (zz@clinic.org, 030 1234567), compared to ____."
    samples = [Sample(Path(), Condition(text, "CXR"), f"p{n}", n, n + 2) for n in range(4)]
    notes = identifying_notes(samples)
    assert [note.split(", which")[0] for note in notes] == [
        f"4 training texts hold {what}" for what in sorted([DATE, NUMBER, ADDRESS, PHONE, NAME, MARK])
    ]
    assert all("(lines 2, 3, 4 ...)" in note for note in notes)


def test_a_date_is_no_telephone_number_too() -> None:
    assert kinds_in("03-03-2019") == [DATE]
