"""Changes between two reports of one patient, as structured data and as an instruction in English.

The rules, for each finding and side, on the summaries of both reports (`medloom.report_text.findings`):

- Present before and denied after, by name or by a phrase of normality that covers it: resolved. A current report that
  does not mention it is not evidence of resolution, nor is a partial absence ("no large effusion", "no new nodule").
- Present after and not before: appeared, unless the current report implies that it was present ("unchanged",
  "increased", "decreased"), which then counts. A prior report that does not mention a finding counts as one without it;
  one that is uncertain about it does not, unless the current report calls the finding new.
- Present in both: different sizes decide; otherwise the current report's words of change; otherwise equal sizes mean
  that it is unchanged. Without any of these, no change is reported.
- "No change" or "stable examination" in the current report: findings that it does not mention are unchanged.
- A finding without a side refers to the side that the other report names. An uncertain finding in the current report
  gives no change.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from medloom.core.errors import UserError
from medloom.report_text import finding_terms as terms
from medloom.report_text.findings import ABSENT, PRESENT, Mention, findings_of, is_partial, summary_of
from medloom.report_text.sections import section, sections_of, sentences_of

APPEARED, RESOLVED, GREW, SHRANK, STAYED = "appeared", "resolved", "grew", "shrank", "stayed"
INVERSE = {APPEARED: RESOLVED, RESOLVED: APPEARED, GREW: SHRANK, SHRANK: GREW, STAYED: STAYED}
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
        side: left, right, both, or None if not stated.
        size: small, moderate or large after the change, if stated.
        size_before: the same before the change.
    """

    finding: str
    kind: str
    side: str | None = None
    size: str | None = None
    size_before: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Progression:
    """What changed from one visit to the next.

    Attributes:
        changes: in the order of the vocabulary; empty if the text was not derived from changes.
        text: an instruction in English.
    """

    changes: tuple[Change, ...]
    text: str


def progression_of(before: str, after: str) -> Progression:
    """The changes between two reports, by the rules of this module.

    Args:
        before: findings or the whole report of the prior visit.
        after: findings or the whole report of the current visit.
    """
    earlier, later = summary_of(before), summary_of(after)
    general = any(UNCHANGED_IN_GENERAL.search(s.casefold()) and not findings_of(s) for s in sentences_of(after))
    changes: list[Change] = []
    for finding in terms.VOCABULARY:
        before_by_side, after_by_side = (
            {side: mention for (name, side), mention in summary.items() if name == finding}
            for summary in (earlier, later)
        )
        found: dict[str | None, tuple[str, str | None, str | None]] = {}
        # The sides on which it is present, or reported as resolved, in either report; None if neither names a side.
        stated = [
            side
            for report in (before_by_side, after_by_side)
            for side, mention in report.items()
            if mention.status == PRESENT or (mention.change == "resolved" and not mention.normality)
        ]
        sides: list[str | None] = [*sorted({side for side in stated if side})]
        for side in sides or ([None] if stated else []):
            was, now = (mentions.get(side, mentions.get(None)) for mentions in (before_by_side, after_by_side))
            if side is None:
                # "The effusion has resolved" does not repeat the side of the effusion.
                was = was or next(iter(before_by_side.values()), None)
                now = now or next(iter(after_by_side.values()), None)
            if kind := _kind(was, now, general):
                size_before = was.size if was and was.status == PRESENT and kind != APPEARED else None
                found[side] = kind, now.size if now and kind != RESOLVED else None, size_before
        if "left" in found and found.get("left") == found.get("right"):
            found = {"both": found["left"]}
        changes += [Change(finding, kind, side, *sizes) for side, (kind, *sizes) in found.items()]
    return Progression(tuple(changes), _instruction(changes))


def inverse_of(progression: Progression) -> Progression:
    """The way back: what appeared has resolved, what grew has shrunk to its size before, and the other way round.

    It is not what the two reports say in the other order: the earlier one does not look ahead.

    Args:
        progression: by `progression_of`.
    """
    changes = tuple(
        Change(change.finding, INVERSE[change.kind], change.side, change.size_before, change.size)
        for change in progression.changes
    )
    return Progression(changes, _instruction(changes))


def _instruction(changes: Sequence[Change]) -> str:
    # Changes first, then unchanged findings.
    ordered = sorted(changes, key=lambda change: change.kind == STAYED)
    return " ".join(map(_words, ordered)) if ordered and ordered[0].kind != STAYED else NO_CHANGE


def impression_of(before: str, after: str) -> Progression:
    """The current report's impression; `before` is ignored.

    Raises:
        UserError: the current report has no impression.
    """
    text = section(sections_of(after), ("impression",))
    if text is None:
        raise UserError("the current report has no impression; use the method `rules` for it, or leave the pair out.")
    return Progression((), text)


PROGRESSIONS: dict[str, Callable[[str, str], Progression]] = {"rules": progression_of, "impression": impression_of}


def _kind(before: Mention | None, after: Mention | None, general: bool) -> str | None:
    """How a finding changed; None if the reports do not state it."""
    was_present = before is not None and before.status == PRESENT
    if after is None:
        return STAYED if general and was_present else None
    if after.status == ABSENT:
        stated = after.change == "resolved" and not after.normality
        return RESOLVED if stated or (was_present and not is_partial(after)) else None
    if after.status != PRESENT:
        return None
    stated_kind = KINDS.get(after.change or "")
    if before is None or before.status != PRESENT:
        uncertain = before is not None and before.status != ABSENT
        return stated_kind or (None if uncertain and after.change != "new" else APPEARED)
    if before.size and after.size and before.size != after.size:
        return GREW if SIZES.index(after.size) > SIZES.index(before.size) else SHRANK
    return stated_kind or (STAYED if before.size and after.size else None)


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
