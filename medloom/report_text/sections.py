"""Radiology reports as free text: their sections, their sentences, and their words on earlier studies left out.

The rules, which follow how reports of MIMIC-CXR and Open-i are written:

- A heading is a name of `HEADINGS` with a colon after it: in any case at the start of a line, capitalised or in
  capitals within one; or such a name alone on a line.
- "Findings and impression" counts as findings, "interpretation" as findings, "conclusion" as impression.
- A study's name in capitals ("CHEST, PA AND LATERAL:") is an examination; the text under it is findings where the
  report has no findings of its own, and belongs to the examination where it has. Under "FINDINGS:" it stays text.
- Any other heading ("LUNGS:", "HEART:") stays text of the section that it stands in.
- "FINAL REPORT" ends what comes before. A wet read or an addendum reaches to it, headings included; where no such line
  follows, it reaches to the next heading.
- Where neither gives findings, the paragraphs after the first one of an indication, a technique or a comparison do.
- Text before the first heading is the preamble; a text that has no heading at all is findings.
- Whitespace is collapsed, a section that comes twice is joined in order, an empty one is left out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medloom.core.lookup import look_up
from medloom.report_text.comparisons import without_comparisons
from medloom.report_text.sentences import sentences_of

__all__ = [
    "HEADINGS",
    "SECTIONS",
    "count_sections",
    "section",
    "section_name",
    "sections_of",
    "sentences_of",
    "without_comparisons",
]

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
# The only words that a study's name is made of; numbers, dates and marks of de-identification aside.
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


@dataclass(frozen=True)
class _Part:
    """A stretch of a report: the section that its heading opens, the heading's words, the text under it."""

    name: str
    heading: str
    text: str


def sections_of(text: str) -> dict[str, str]:
    """The sections of a report.

    Args:
        text: the report, with its line breaks where it has any.

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
        for name, words in _placed(part, own_findings, under_study):
            if collapsed := " ".join(words.split()):
                sections.setdefault(name, []).append(collapsed)
    return {name: " ".join(pieces) for name, pieces in sections.items()}


def section_name(heading: str) -> str | None:
    """The section that a heading opens ("Clinical history" opens the indication); None where it is none of ours."""
    return _CANONICAL.get(" ".join(heading.casefold().rstrip(": ").split()))


def section(sections: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    """The text of the first of the wanted sections that is there; None where none is.

    Raises:
        UserError: a wanted name is not one of `SECTIONS`.
    """
    for name in wanted:
        look_up(dict.fromkeys(SECTIONS), name, "section of a report")
    return next((sections[name] for name in wanted if sections.get(name)), None)


def count_sections(reports: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """How many of some reports, each as its sections, had which section; "reports" counts them all."""
    counts: Counter[str] = Counter()
    for sections in reports:
        counts.update(["reports", *(name for name, text in sections.items() if text)])
    return {name: counts[name] for name in ("reports", *SECTIONS) if counts[name]}


def _parts(text: str) -> list[_Part]:
    """The text cut at its headings; headings that stay text of a section cut nothing."""
    cuts: list[tuple[str, str, int, int]] = [(PREAMBLE, "", 0, 0)]
    headings = [(name, match) for match in _HEADING.finditer(text) if (name := _kind(match))]
    for position, (name, match) in enumerate(headings):
        current = cuts[-1][0]
        closed_later = any(later == FINAL for later, _ in headings[position:])
        if current in CLOSED_BY_FINAL and name != FINAL and closed_later:
            continue
        if name == "study" and current == "findings":
            continue
        cuts.append((PREAMBLE if name == FINAL else name, match[0].strip().rstrip(":"), match.start(), match.end()))
    ends = [start for _, _, start, _ in cuts[1:]] + [len(text)]
    parts = [_Part(name, heading, text[start:end]) for (name, heading, _, start), end in zip(cuts, ends, strict=True)]
    return [part for part in parts if part.text.strip() or part.name == "study"]


def _kind(match: re.Match[str]) -> str | None:
    """The section that a heading opens, "study" for a study's name, None where it is none."""
    if match["wet"]:
        return "wet read"
    if known := match["line"] or match["inline"]:
        return FINAL if known.casefold() == FINAL else _CANONICAL[known.casefold()]
    words = re.findall(r"[a-z]+", match["study"].casefold())
    return "study" if words and {"chest", "thorax"} & set(words) and set(words) <= STUDY_WORDS else None


def _placed(part: _Part, own_findings: bool, under_study: bool) -> list[tuple[str, str]]:
    """Where the text of a part goes."""
    if part.name == "study":
        return [("examination", part.heading), ("examination" if own_findings else "findings", part.text)]
    if part.name in ONE_PARAGRAPH and not own_findings and not under_study:
        first, *rest = _PARAGRAPH.split(part.text.strip())
        return [(part.name, first), ("findings", "\n\n".join(rest))]
    return [(part.name, part.text)]
