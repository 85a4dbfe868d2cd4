"""Statements of a report about the examination as a whole: worse, better, recurred, or without change.

"Radiological worsening.", "Marked improvement of the appearances since the radiograph of 2 days earlier.", "No
significant change." The rules, clause by clause:

- A statement is made by words of change about the images or about everything in them ("radiological progression", "the
  changes have regressed", "overall improvement"), or by nothing else ("Interval worsening.").
- Clauses about the patient's state ("the patient deteriorated", "increasing oxygen requirements", "clinical worsening")
  say nothing of the image, and those about how it was taken ("decreased lung volumes") nothing of the disease.
- Several statements that differ cancel each other.
"""

import re

from medloom.report_text.sections import sentences_of

WORSE, BETTER, RECURRED, SAME = "worse", "better", "recurred", "same"
_SUBJECT = (
    r"(?:left|right|radiolog\w+|radiograph\w+|imaging|x-?ray|film|chest|lungs?|pulmonary|overall|general|interval|serial"
    r"|appearances?|changes?|findings?|abnormalit\w+|disease|picture|examination|exam|study|lesions?|involvement|pattern)"
)
_WORSE = (
    r"(?:worsen\w*|worse|deteriorat\w+|progress(?:ion|ive|ed|ing)|increas(?:e|ed|ing)|advanced"
    r"|more (?:extensive|severe|widespread))"
)
_BETTER = (
    r"(?:improv\w+|better|regress\w+|resol(?:ution|v\w+)|clear(?:ing|ed)|declin\w+|decreas(?:e|ed|ing)|recover\w+"
    r"|less (?:extensive|severe|widespread))"
)
_RECURRED = r"(?:recur\w+|relaps\w+|reappear\w+)"
_SAME = (
    r"\bno (?:significant |interval |appreciable |substantial |relevant |other )*change(?:s)?"
    r"(?: (?:since|from|compared|is|are|in (?:the )?(?:appearances?|examination|chest))\b|[ .]*$)"
    r"|\b(?:stable|unchanged) (?:normal )?(?:chest|examination|exam|study|appearances?|radiograph\w*|x-?\w*)\b"
    r"|\bradiolog\w+ stability\b|\bwithout (?:significant |interval |appreciable )*change\b"
    r"|\b(?:is|are|appears?|remains?) (?:similar|unchanged|stable) (?:to|compared (?:to|with)|since|from) (?:the )?"
    r"(?:prior|previous|last|earlier)\b|\bnot (?:\w+ )?changed in the interval\b"
)
# What changes is the patient, and not the image.
_CLINICAL = re.compile(
    r"\b(?:patients?|clinical\w*|oxygen\w*|satur\w+|desatur\w+|hypoxi\w+|breath\w*|dyspn\w+|respirat\w+|fever|symptom\w*"
    r"|requirements?|cough|pain|sepsis|hypotension|blood|counts?|levels?|lethargy|fatigue|malaise|treatment|evolution)\b"
)
# How the image was taken, and what lies in the patient.
_TECHNICAL = re.compile(
    r"\b(?:lung volumes?|inspirat\w+|inflat\w+|expan\w+|rotat\w+|techni\w+|exposure|penetration|projection|position\w*"
    r"|drains?|depth|tubes?|catheters?|lines?|leads?|sternotomy|hardware)\b"
)
_NEGATED = re.compile(
    rf"\b(?:no|not|without|neither|nor|fail\w*|little)\b[^.;]{{0,40}}?\b(?:{_WORSE}|{_BETTER}|{_RECURRED}|sign)"
)
_BETWEEN = r"(?: (?:\w+|,|/)){0,6}? "


def overall_of(text: str, before: str = "") -> str | None:
    """What a report states of the whole examination: worse, better, recurred or same; None if it says nothing.

    Args:
        text: of the current report.
        before: of the prior one; its sentences in the current report, as of a history, are not current.
    """
    old = {_plain(sentence) for sentence in sentences_of(before)}
    found = {
        statement
        for sentence in sentences_of(text)
        if _plain(sentence) not in old
        for clause in re.split(r"[;]|, (?:but|however|although)\b|\bhowever\b|, with\b", sentence.casefold())
        for statement in _statements(clause)
    }
    directed = found - {SAME}
    return next(iter(directed)) if len(directed) == 1 else None if directed else next(iter(found), None)


def _statements(clause: str) -> set[str]:
    if re.search(_SAME, clause):
        return {SAME}
    if _CLINICAL.search(clause) or _TECHNICAL.search(clause) or _NEGATED.search(clause):
        return set()
    words = re.sub(r"[^a-z/ -]", " ", clause)
    words = " ".join(words.split())
    found = set()
    for statement, change in ((WORSE, _WORSE), (BETTER, _BETTER), (RECURRED, _RECURRED)):
        about = rf"\b{_SUBJECT}{_BETWEEN}{change}\b|\b{change}{_BETWEEN}{_SUBJECT}\b|\b{_SUBJECT} {change}\b"
        degree = r"(?:\w+ly |marked |slight |mild |minor |partial |interval )*"
        alone = rf"^(?:there (?:is|has been) )?(?:an? )?{degree}{change}$"
        if re.search(about, words) or re.search(alone, words):
            found.add(statement)
    return found


def _plain(sentence: str) -> str:
    return " ".join(sentence.casefold().split())
