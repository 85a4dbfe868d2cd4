"""Sentences of radiology reports."""

import re
from itertools import pairwise

_LIST_NUMBER = re.compile(r"(?:^|(?<=\s))(\d{1,2})[.)]\s*(?=[A-Za-z_])")
_BREAK = re.compile(r"\n\s*\n|\n\s*(?=[-*•]\s|\d{1,2}[.)]\s)")
_END = re.compile(r"(?:[.?!]+(?=\s|$)|(?<=[a-z_X])\.(?=[A-Z][a-z]))[\"')]*\s*")
# A full stop after these ends no sentence; after "a.m." and "p.m." it does where a capital follows.
_ABBREVIATED = "dr mr mrs ms prof st vs approx fig figs ca cf e.g i.e resp dept incl"
ABBREVIATIONS = frozenset(_ABBREVIATED.split())


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text, their last full stop kept, whitespace collapsed.

    A full stop within a number, after an abbreviation or after a number of a list ends none; the numbers of lists are
    left out. Two full stops are one. A paragraph and an item of a list end a sentence without a full stop too.
    """
    found: list[str] = []
    for block in _BREAK.split(text):
        for item in _items(" ".join(block.lstrip("-*• \t\n").split())):
            found += _split(item)
    return tuple(found)


def _items(block: str) -> list[str]:
    """A block cut before the numbers of a list, which count up from the first; without the numbers."""
    cuts, expected = [(0, 0)], None
    for match in _LIST_NUMBER.finditer(block):
        number = int(match[1])
        opens = not block[: match.start()].strip() or block[: match.start()].rstrip()[-1] in ".?!:;"
        if (expected is None and opens) or number == expected:
            cuts.append((match.start(), match.end()))
            expected = number + 1
    return [block[start:end].strip() for (_, start), (end, _) in pairwise([*cuts, (len(block), 0)])]


def _split(item: str) -> list[str]:
    """One item cut after the full stops that end a sentence."""
    sentences, start = [], 0
    for match in _END.finditer(item):
        if _ends(item[start : match.start()], item[match.end() :]):
            sentences.append(re.sub(r"([.?!])[.?!]+", r"\1", item[start : match.end()]).strip())
            start = match.end()
    sentences.append(item[start:].strip())
    return [sentence for sentence in sentences if re.search(r"[A-Za-z]", sentence)]


def _ends(before: str, after: str) -> bool:
    words = before.split()
    last = words[-1].casefold().lstrip("(") if words else ""
    if last in ("a.m", "p.m"):
        return not after or after[0].isupper()
    return last not in ABBREVIATIONS
