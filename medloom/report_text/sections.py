"""Radiology reports as free text: their sections and their sentences.

The rules follow the style of reports in MIMIC-CXR and Open-i:

- A heading is a name of `HEADINGS` followed by a colon: in any case at the start of a line, capitalised or in capitals
  within one; or such a name alone on a line.
- "Findings and impression" counts as findings, "interpretation" as findings, "conclusion" as impression.
- A study's name in capitals ("CHEST, PA AND LATERAL:") is an examination. The text under it counts as findings if the
  report has no findings section, and otherwise belongs to the examination. Under "FINDINGS:" it is ordinary text.
- Any other heading ("LUNGS:", "HEART:") is ordinary text of its section.
- "FINAL REPORT" ends everything before it. A wet read or an addendum extends to this line, headings included, or to the
  next heading if there is no such line.
- If neither gives findings, the paragraphs after the first one of an indication, a technique or a comparison do.
- Text before the first heading is the preamble; a text without any heading is findings.
- Whitespace is collapsed, repeated sections are joined in order, and empty ones are omitted.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from medloom.core.lookup import look_up

FINAL = "final report"
PREAMBLE = "preamble"
HEADINGS: dict[str, tuple[str, ...]] = {
    "examination": ("examination", "examinations", "exam", "study", "procedure", "type of examination"),
    "indication": (
        *("indication", "indications", "history", "clinical history", "clinical information", "clinical indication"),
        *("reason for exam", "reason for examination", "reason for study", "reason for the study", "reason"),
        *("patient history", "history and indication", "indication/history", "clinical data", "clinical statement"),
    ),
    "technique": ("technique", "techniques", "technical factors", "views", "procedure comments"),
    "comparison": ("comparison", "comparisons", "comparison study", "comparison studies", "comparison exam"),
    "findings": (
        *("findings", "finding", "interpretation", "findings and impression", "findings/impression"),
        *("findings & impression", "impression and findings", "report", "observations"),
    ),
    "impression": (
        *("impression", "impressions", "conclusion", "conclusions", "summary", "opinion"),
        *("impression and recommendation", "impression and recommendations", "impression/recommendation"),
    ),
    "recommendation": ("recommendation", "recommendations", "recommendation(s)"),
    "notification": ("notification", "notifications", "communication"),
    "wet read": ("wet read", "wet read version", "preliminary report", "preliminary read"),
    "addendum": ("addendum", "final addendum", "addenda"),
}
SECTIONS = (PREAMBLE, *HEADINGS)
CLOSED_BY_FINAL = ("wet read", "addendum")
ONE_PARAGRAPH = ("indication", "technique", "comparison")
# The only words in a study's name, besides numbers, dates and marks of de-identification.
_STUDY = """
    chest thorax radiograph radiographs radiography xray xrays x ray rays film films view views image images one two
    three single portable bedside upright semi erect supine semiupright frontal lateral decubitus pa ap
    posteroanterior anteroposterior and of the with without at on in hours hour hrs dated am pm a m p ct cta scan
    computed tomography contrast iv intravenous w o wo abdomen pelvis xxxx rib ribs for line placement
"""
STUDY_WORDS = frozenset(_STUDY.split())
_CANONICAL = {alias: name for name, aliases in HEADINGS.items() for alias in aliases}
_NAMES = "|".join(re.escape(name) for name in sorted((*_CANONICAL, FINAL), key=len, reverse=True))
_CAPITALISED = "|".join(
    rf"{re.escape(name.capitalize())}|{re.escape(name.title())}|{re.escape(name.upper())}"
    for name in sorted((*_CANONICAL, FINAL), key=len, reverse=True)
)
_HEADING = re.compile(
    rf"^[ \t]*(?P<line>(?i:{_NAMES}))[ \t]*(?::+|(?=\s*$))"
    rf"|(?<=\s)(?P<inline>{_CAPITALISED})[ \t]*:+"
    rf"|^[ \t]*(?P<wet>(?i:wet read))\b(?:[ \t]+version)?:?"
    r"|^[ \t]*(?P<study>[A-Z0-9][A-Z0-9 ,./&()_:-]*[A-Z0-9_.)])[ \t]*(?::(?=\s|$)|$)",
    re.MULTILINE,
)
_RULE = re.compile(r"^[ \t]*[_=*-]{5,}[ \t]*$", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n\s*\n")
_LIST_NUMBER = re.compile(r"(?:^|(?<=\s))(\d{1,2})[.)]\s*(?=[A-Za-z_])")
_BREAK = re.compile(r"\n\s*\n|\n\s*(?=[-*•]\s|\d{1,2}[.)]\s)")
_END = re.compile(r"(?:[.?!]+(?=\s|$)|(?<=[a-z_X])\.(?=[A-Z][a-z]))[\"')]*\s*")
# A full stop after these does not end a sentence; after "a.m." and "p.m." it does if a capital follows.
_ABBREVIATED = "dr mr mrs ms prof st vs approx fig figs ca cf e.g i.e resp dept incl"
ABBREVIATIONS = frozenset(_ABBREVIATED.split())


@dataclass(frozen=True)
class _Part:
    """A part of a report: the section that its heading opens, the words of the heading, and the text under it."""

    name: str
    heading: str
    text: str


def sections_of(text: str) -> dict[str, str]:
    """The sections of a report.

    Args:
        text: the report, with its line breaks.

    Returns:
        Name of the section (one of `SECTIONS`) to its text, in the order of the report, by the rules of this module.
    """
    parts = _parts(_RULE.sub("", text))
    if [part.name for part in parts] == [PREAMBLE]:
        parts = [_Part("findings", "", parts[0].text)]
    own_findings = any(part.name == "findings" for part in parts)
    under_study = any(part.name == "study" and part.text.strip() for part in parts)
    sections: dict[str, list[str]] = {}
    for part in parts:
        pieces = [(part.name, part.text)]
        if part.name == "study":
            pieces = [("examination", part.heading), ("examination" if own_findings else "findings", part.text)]
        elif part.name in ONE_PARAGRAPH and not own_findings and not under_study:
            first, *rest = _PARAGRAPH.split(part.text.strip())
            pieces = [(part.name, first), ("findings", "\n\n".join(rest))]
        for name, words in pieces:
            if collapsed := " ".join(words.split()):
                sections.setdefault(name, []).append(collapsed)
    return {name: " ".join(texts) for name, texts in sections.items()}


def section_name(heading: str) -> str | None:
    """The section that a heading opens ("Clinical history" opens the indication); None for an unknown heading."""
    return _CANONICAL.get(" ".join(heading.casefold().rstrip(": ").split()))


def section(sections: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    """The text of the first wanted section that the report has, or None.

    Raises:
        UserError: a wanted name is not one of `SECTIONS`.
    """
    for name in wanted:
        look_up(dict.fromkeys(SECTIONS), name, "section of a report")
    return next((sections[name] for name in wanted if sections.get(name)), None)


def count_sections(reports: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """The number of reports that have each section; "reports" is the total."""
    counts: Counter[str] = Counter()
    for sections in reports:
        counts.update(["reports", *(name for name, text in sections.items() if text)])
    return {name: counts[name] for name in ("reports", *SECTIONS) if counts[name]}


def _parts(text: str) -> list[_Part]:
    """The text split at its headings, except those that are ordinary text of a section."""
    cuts: list[tuple[str, str, int, int]] = [(PREAMBLE, "", 0, 0)]
    headings = [(name, match) for match in _HEADING.finditer(text) if (name := _kind(match))]
    for position, (name, match) in enumerate(headings):
        current = cuts[-1][0]
        closed_later = any(later == FINAL for later, _ in headings[position:])
        in_closed = current in CLOSED_BY_FINAL and name != FINAL and closed_later
        if in_closed or (name == "study" and current == "findings"):
            continue
        cuts.append((PREAMBLE if name == FINAL else name, match[0].strip().rstrip(":"), match.start(), match.end()))
    ends = [start for _, _, start, _ in cuts[1:]] + [len(text)]
    parts = [_Part(name, heading, text[start:end]) for (name, heading, _, start), end in zip(cuts, ends, strict=True)]
    return [part for part in parts if part.text.strip() or part.name == "study"]


def _kind(match: re.Match[str]) -> str | None:
    """The section that a heading opens, "study" for a study's name, None if it is not a heading."""
    if match["wet"]:
        return "wet read"
    if known := match["line"] or match["inline"]:
        return FINAL if known.casefold() == FINAL else _CANONICAL[known.casefold()]
    words = re.findall(r"[a-z]+", match["study"].casefold())
    return "study" if words and {"chest", "thorax"} & set(words) and set(words) <= STUDY_WORDS else None


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text, with their full stop and collapsed whitespace.

    A full stop within a number, after an abbreviation or after a list number does not end a sentence; list numbers are
    omitted, and repeated full stops count once. The end of a paragraph or list item also ends a sentence.
    """
    found: list[str] = []
    for block in _BREAK.split(text):
        for item in _items(" ".join(block.lstrip("-*• \t\n").split())):
            start = 0
            for match in _END.finditer(item):
                if _ends(item[start : match.start()], item[match.end() :]):
                    found.append(re.sub(r"([.?!])[.?!]+", r"\1", item[start : match.end()]).strip())
                    start = match.end()
            found.append(item[start:].strip())
    return tuple(sentence for sentence in found if re.search(r"[A-Za-z]", sentence))


def _items(block: str) -> list[str]:
    """A block split before the numbers of a list, which count up from the first; without the numbers."""
    cuts, expected = [(0, 0)], None
    for match in _LIST_NUMBER.finditer(block):
        number = int(match[1])
        opens = not block[: match.start()].strip() or block[: match.start()].rstrip()[-1] in ".?!:;"
        if (expected is None and opens) or number == expected:
            cuts.append((match.start(), match.end()))
            expected = number + 1
    return [block[start:end].strip() for (_, start), (end, _) in pairwise([*cuts, (len(block), 0)])]


def _ends(before: str, after: str) -> bool:
    words = before.split()
    last = words[-1].casefold().lstrip("(") if words else ""
    if last in ("a.m", "p.m"):
        return not after or after[0].isupper()
    return last not in ABBREVIATIONS
