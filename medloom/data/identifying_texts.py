"""What in a text may tell who a patient is, by rule; and the words that several patients share."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from medloom.core.types import Sample
from medloom.data.prompts.identity import DATE_WITHIN

# What each pattern finds in a text. De-identification leaves marks that a model learns to write.
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "a mark of de-identification": re.compile(r"\[\*\*.*?\*\*\]|\bX{4,}\b|_{3,}"),
    "a date": DATE_WITHIN,
    "a long number": re.compile(r"\b\d{6,}\b"),
    "an address": re.compile(r"\b[\w.+-]+@[\w-]+\.\w+\b|\bhttps?://\S+"),
    "a telephone number": re.compile(r"(?<!\w)\+?\d{2,4}(?:[ /-]\d{2,4}){2,}(?!\w)"),
    "a titled name": re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof)\.? [A-Z][a-z]+"),
}
# A word of fewer patients may be a name, and is no part of a vocabulary.
LEAST_PATIENTS = 5
WORD = re.compile(r"\w+")
LISTED = 3


def found_in(text: str) -> str | None:
    """What in a text may identify someone, in words; None if nothing is found."""
    return next((what for what, pattern in PATTERNS.items() if pattern.search(text)), None)


def identifying_notes(samples: Sequence[Sample]) -> list[str]:
    """What a user should know of training texts, before a model learns them; lines stand for the texts."""
    lines: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        if what := found_in(sample.condition.text or ""):
            lines[what].append(sample.line)
    return [
        f"{len(own)} training texts hold {what}, which may identify someone and which the model may learn (line"
        f"{'s' if len(own) > 1 else ''} {', '.join(map(str, own[:LISTED]))}{' ...' if len(own) > LISTED else ''});"
        " remove it, or do not share the model."
        for what, own in lines.items()
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
