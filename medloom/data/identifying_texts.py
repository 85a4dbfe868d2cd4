"""What in a text may tell who a patient is, by rule; and the words that several patients share."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from medloom.core.types import Sample
from medloom.data.prompts.identity import DATE_WITHIN

MARK, LONG_NUMBER = "a mark of de-identification", "a long number"
# A name, in small letters or in capitals, after initials and further titles; XXXX is none.
_NAME = r"(?!X{2,}\b)[^\W\d_a-zß-öø-ÿ](?:['’]?[^\W\d_])+(?:[-'’][^\W\d_]+)*"
_TITLE = r"(?:(?:Mr|Mrs|Ms|Mme|Dr|Prof)\b\.?|DR\.|PROF\.|(?:Professor|Doctor|Madame|Monsieur|Frau|Herrn?)\b)"
# What each pattern finds in a text, in the order in which they are looked for: digits of a date are no telephone
# number, and those of a telephone number are no other long one. De-identification leaves marks that a model learns to
# write.
PATTERNS: Mapping[str, re.Pattern[str]] = {
    MARK: re.compile(r"\[\*\*.*?\*\*\]|\bX{4,}\b|_{3,}"),
    "a date": DATE_WITHIN,
    "an address": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.\w+\b|\bhttps?://\S+|\bwww\.\S+"),
    "a telephone number": re.compile(
        r"(?<!\w)\+?\d{2,4}(?:[ /-]\d{2,4}){2,}(?!\w)"
        # With the code of an area or a country: 030 1234567, 030/1234567, (030) 1234567, (555) 123-4567, +49301234567
        r"|(?<![\w.])0[1-9]\d{0,3} ?[ /-] ?\d{5,9}(?!\w)"
        r"|\(0?\d{2,4}\) ?\d{3,8}(?:[ -]\d{2,6})?(?!\w)"
        r"|(?<!\w)\+\d{1,3}[ \d/-]{7,14}\d(?!\w)"
    ),
    LONG_NUMBER: re.compile(r"\b\d{6,}\b|\b(?:MRN|[Pp]atient ID)\W{0,3}(?=\w*\d{3})\w+"),
    # "Patient:" is a title only before two names: "Patient: Intubated" is no name.
    "a titled name": re.compile(
        rf"\b{_TITLE} ?(?:med\.? |[^\W\d_]\. ?)*{_NAME}|\bPatient(?:in)?(?: [Nn]ame)?: ?{_NAME},? {_NAME}"
    ),
}
# A word of fewer patients may be a name, and is no part of a vocabulary.
LEAST_PATIENTS = 5
WORD = re.compile(r"\w+")
LISTED = 3


def kinds_in(text: str) -> list[str]:
    """All kinds of what in a text may identify someone, in words.

    Examples:
        >>> kinds_in("Dr. HUBER, 030 1234567, on March 3rd, 2019.")
        ['a date', 'a telephone number', 'a titled name']
    """
    found = []
    for what, pattern in PATTERNS.items():
        # What is found is looked at once.
        text, times = pattern.subn("|", text)
        found += [what] if times else []
    return found


def found_in(text: str) -> str | None:
    """The first kind of what in a text may identify someone, in words; None if nothing is found."""
    return next(iter(kinds_in(text)), None)


def identifying_notes(samples: Sequence[Sample]) -> list[str]:
    """What a user should know of training texts, before a model learns them; lines stand for the texts."""
    lines: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        for what in kinds_in(sample.condition.text or ""):
            lines[what].append(sample.line)
    return [
        f"{len(own)} training texts hold {what}, which may identify someone and which the model may learn (line"
        f"{'s' if len(own) > 1 else ''} {', '.join(map(str, own[:LISTED]))}{' ...' if len(own) > LISTED else ''});"
        " remove it, or do not share the model."
        for what, own in sorted(lines.items())
    ]


def shared_words(texts: Sequence[str], patients: Sequence[str]) -> list[str]:
    """Texts with those of their words alone that stand in texts of several patients, for a vocabulary.

    Names and numbers of single patients would else be read from a tokenizer that is shared with the model.

    Args:
        texts: of the rows.
        patients: whose they are.

    Examples:
        >>> texts = ["Normal heart, Smith."] + ["Normal heart."] * 4
        >>> shared_words(texts, ["a", "b", "c", "d", "e"])[0]
        'Normal heart, .'
    """
    pairs = {
        (word.casefold(), patient) for text, patient in zip(texts, patients, strict=True) for word in WORD.findall(text)
    }
    counts = Counter(word for word, _ in pairs)

    def kept(found: re.Match[str]) -> str:
        return found[0] if counts[found[0].casefold()] >= LEAST_PATIENTS else ""

    return [WORD.sub(kept, text) for text in texts]
