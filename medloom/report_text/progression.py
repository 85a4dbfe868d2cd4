"""What changed between two reports of one patient, as structured changes and as an instruction in English.

The rules, finding by finding and side by side, on the summaries of both reports (`medloom.report_text.findings`):

- There before and denied after, by name or by a phrase of normality that covers it: resolved. That the later report
  does not mention it is no resolution, nor is an absence of one kind alone ("no large effusion", "no new nodule").
- There after and not before: appeared, unless the later report's words say that it was there ("unchanged",
  "increased", "decreased"), which then hold. An earlier report that does not mention a finding counts as one that does
  not see it; one that is uncertain of it does not, unless the later report calls it new.
- There on both: two sizes that differ decide; else the later report's own words of change; else equal sizes mean that
  it stayed. Otherwise nothing is said.
- "No change" or "stable examination" in the later report: what it does not mention stayed.
- What is said without a side is of whatever side the other report names. What is uncertain after changes nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medloom.core.errors import UserError
from medloom.report_text import finding_terms as terms
from medloom.report_text.findings import ABSENT, PRESENT, Key, Mention, findings_of, is_partial, summary_of
from medloom.report_text.sections import section, sections_of
from medloom.report_text.sentences import sentences_of

APPEARED, RESOLVED, GREW, SHRANK, STAYED = "appeared", "resolved", "grew", "shrank", "stayed"
KINDS = {"increased": GREW, "decreased": SHRANK, "unchanged": STAYED}
SIZES = ("small", "moderate", "large")
NO_CHANGE = "No change."
UNCHANGED_IN_GENERAL = re.compile(
    r"\bno (?:significant |interval |appreciable )*change(?:s)?(?: (?:since|from|compared|is)\b|[.]?$)"
    r"|\b(?:stable|unchanged) (?:chest|examination|exam|study|appearance)\b"
)
WORDS = {
    APPEARED: "{New} {noun} {has} appeared.",
    RESOLVED: "The {noun} {has} resolved.",
    GREW: "The {noun} {has} increased{now}.",
    SHRANK: "The {noun} {has} decreased{now}.",
    STAYED: "The {noun} {is} unchanged.",
}
HEART_WORDS = {
    APPEARED: "The heart is now enlarged.",
    RESOLVED: "The heart is no longer enlarged.",
    GREW: "The heart has become larger.",
    SHRANK: "The heart has become smaller.",
    STAYED: "The heart is unchanged in size.",
}
UNCOUNTED = frozenset({terms.ATELECTASIS, terms.EDEMA, terms.EMPHYSEMA, terms.INTERSTITIAL, terms.CONSOLIDATION})
PLURALS = {
    terms.PLEURAL: "pleural effusions",
    terms.AIR: "pneumothoraces",
    terms.NODULE: "nodules",
    terms.GLASS: "ground-glass opacities",
    terms.FRACTURE: "fractures",
    terms.DEVICES: terms.DEVICES,
}


@dataclass(frozen=True)
class Change:
    """How one finding changed.

    Attributes:
        finding: of the vocabulary of `medloom.report_text.finding_terms`.
        kind: appeared, resolved, grew, shrank or stayed.
        side: left, right, both, or None where none is said.
        size: small, moderate or large after it, where it is said.
    """

    finding: str
    kind: str
    side: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Progression:
    """What changed from one visit to the next.

    Attributes:
        changes: in the order of the vocabulary; empty where the text is not made from changes.
        text: an instruction in English.
    """

    changes: tuple[Change, ...]
    text: str


def progression_of(before: str, after: str) -> Progression:
    """What changed between two reports, by the rules of this module.

    Args:
        before: findings or the whole report of the earlier visit.
        after: those of the later visit.
    """
    earlier, later = summary_of(before), summary_of(after)
    general = any(UNCHANGED_IN_GENERAL.search(s.casefold()) and not findings_of(s) for s in sentences_of(after))
    changes: list[Change] = []
    for finding in terms.VOCABULARY:
        changes += _of_finding(finding, _sides(earlier, finding), _sides(later, finding), general)
    return Progression(tuple(changes), _instruction(changes))


def impression_of(before: str, after: str) -> Progression:
    """The later report's impression as it is; `before` is not looked at.

    Raises:
        UserError: the later report has no impression.
    """
    text = section(sections_of(after), ("impression",))
    if text is None:
        raise UserError("the later report has no impression; take the way `rules` for it, or leave the pair out.")
    return Progression((), text)


PROGRESSIONS: dict[str, Callable[[str, str], Progression]] = {"rules": progression_of, "impression": impression_of}


def _sides(summary: Mapping[Key, Mention], finding: str) -> dict[str | None, Mention]:
    return {side: mention for (name, side), mention in summary.items() if name == finding}


def _of_finding(
    finding: str, before: Mapping[str | None, Mention], after: Mapping[str | None, Mention], general: bool
) -> list[Change]:
    found: dict[str | None, tuple[str, str | None]] = {}
    for side in _compared(before, after):
        earlier, later = before.get(side, before.get(None)), after.get(side, after.get(None))
        if side is None:
            # "The effusion has resolved" of an effusion whose side is not said again.
            earlier = earlier or next(iter(before.values()), None)
            later = later or next(iter(after.values()), None)
        if kind := _kind(earlier, later, general):
            found[side] = kind, later.size if later and kind != RESOLVED else None
    if "left" in found and found.get("left") == found.get("right"):
        return [Change(finding, found["left"][0], "both", found["left"][1])]
    return [Change(finding, kind, side, size) for side, (kind, size) in found.items()]


def _compared(before: Mapping[str | None, Mention], after: Mapping[str | None, Mention]) -> list[str | None]:
    """The sides to compare: those where it is there on either visit, none where neither report names one."""
    there = [side for report in (before, after) for side, mention in report.items() if _matters(mention)]
    sided = sorted({side for side in there if side})
    return [*sided] if sided else [None] if there else []


def _matters(mention: Mention) -> bool:
    return mention.status == PRESENT or (mention.change == "resolved" and not mention.normality)


def _kind(before: Mention | None, after: Mention | None, general: bool) -> str | None:
    """How a finding changed; None where the reports do not say."""
    if after is None:
        return STAYED if general and before is not None and before.status == PRESENT else None
    was_there = before is not None and before.status == PRESENT
    if after.status == ABSENT:
        stated = after.change == "resolved" and not after.normality
        return RESOLVED if stated or (was_there and not is_partial(after)) else None
    if after.status != PRESENT:
        return None
    if not was_there:
        uncertain = before is not None and before.status != ABSENT
        said = KINDS.get(after.change or "")
        return said or (None if uncertain and after.change != "new" else APPEARED)
    assert before is not None  # noqa: S101 - was_there says so
    return _growth(before, after)


def _growth(before: Mention, after: Mention) -> str | None:
    if before.size and after.size and before.size != after.size:
        return GREW if SIZES.index(after.size) > SIZES.index(before.size) else SHRANK
    return KINDS.get(after.change or "") or (STAYED if before.size and after.size else None)


def _instruction(changes: list[Change]) -> str:
    """Changes first, then what stayed; "No change." where nothing changed."""
    if all(change.kind == STAYED for change in changes):
        return NO_CHANGE
    ordered = sorted(changes, key=lambda change: change.kind == STAYED)
    return " ".join(_words(change) for change in ordered)


def _words(change: Change) -> str:
    if change.finding == terms.HEART:
        return HEART_WORDS[change.kind]
    plural = change.finding in PLURALS and (change.side == "both" or change.finding == terms.DEVICES)
    noun = PLURALS[change.finding] if plural else change.finding
    side = {"both": "bilateral ", None: ""}.get(change.side, f"{change.side} ")
    size = f"{change.size} " if change.size and change.kind == APPEARED else ""
    new = "New" if plural or change.finding in UNCOUNTED else "A new"
    has, verb = ("have", "are") if plural else ("has", "is")
    now = f" and {verb} now {change.size}" if change.size else ""
    return WORDS[change.kind].format(New=new, noun=f"{size}{side}{noun}", has=has, now=now, **{"is": verb})
