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
- Where no finding changes, what the report states of the whole examination does (`medloom.report_text.overall`).
- Nothing changed if the report says so of a finding or of the examination, or if both reports say that there is
  nothing; where neither a change nor its absence is said, the outcome is not said, and such a pair teaches nothing.
- Sentences on the patient's history that both reports repeat are left out.
- A finding without a side refers to the side that the other report names. An uncertain finding in the current report
  gives no change.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from medloom.core.errors import UserError
from medloom.report_text import finding_terms as terms
from medloom.report_text import overall
from medloom.report_text.findings import ABSENT, PRESENT, Key, Mention, is_partial, summary_of
from medloom.report_text.overall import overall_of
from medloom.report_text.sections import section, sections_of, sentences_of

APPEARED, RESOLVED, GREW, SHRANK, STAYED = "appeared", "resolved", "grew", "shrank", "stayed"
INVERSE = {APPEARED: RESOLVED, RESOLVED: APPEARED, GREW: SHRANK, SHRANK: GREW, STAYED: STAYED}
KINDS = {"increased": GREW, "decreased": SHRANK, "unchanged": STAYED}
SIZES = ("small", "moderate", "large")
NO_CHANGE = "No change."
CHANGED, UNCHANGED, NOT_SAID = "changed", "unchanged", "not said"
OVERALL = {
    overall.WORSE: "The findings have worsened.",
    overall.BETTER: "The findings have improved.",
    overall.RECURRED: "The findings have recurred.",
}
CLEARED = "The findings have resolved."
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
HISTORY = re.compile(
    r"\b(?:\d+-year-old|middle-aged|history|past medical|presented|presents|admitted|diagnos\w+|complain\w*|patients?"
    r"|treat\w+|therapy|smok\w+|symptom\w*)\b"
)
ADVICE = re.compile(
    r"\b(?:recommend\w*|advis\w+|is suggested|to (?:document|ensure|confirm) (?:\w+ ){0,2}(?:resolution|clearing)"
    r"|until (?:\w+ )?(?:resol\w+|clear\w+)|(?:likely|expected) to (?:improve|resolve|worsen|clear|progress)"
    r"|risk of|if (?:\w+ ){0,2}(?:worsen\w*|progress\w*|improv\w*|symptom\w*|persist\w*|clinically))\b"
)
STAYS = re.compile(r"\b(?:unchanged|stable|similar|persist\w*|redemonstrat\w+|not changed)\b")
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
        text: an instruction in English; empty where the outcome is not said.
        outcome: changed, unchanged, or not said, where the reports state neither.
        overall: what the current report states of the whole examination, if no finding changes: worse, better or
            recurred.
    """

    changes: tuple[Change, ...]
    text: str
    outcome: str = CHANGED
    overall: str | None = None


def progression_of(before: str, after: str) -> Progression:
    """The changes between two reports, by the rules of this module.

    Args:
        before: findings or the whole report of the prior visit.
        after: findings or the whole report of the current visit.
    """
    before, after = (_without_advice(text) for text in _without_history(before, after))
    earlier, later = summary_of(before), summary_of(after)
    stated = overall_of(after, before)
    general = stated == overall.SAME
    changes: list[Change] = []
    for finding in terms.VOCABULARY:
        before_by_side, after_by_side = (
            {side: mention for (name, side), mention in summary.items() if name == finding}
            for summary in (earlier, later)
        )
        found: dict[str | None, tuple[str, str | None, str | None]] = {}
        # The sides on which it is present, or reported as resolved, in either report; None if neither names a side.
        named = [
            side
            for report in (before_by_side, after_by_side)
            for side, mention in report.items()
            if mention.status == PRESENT or (mention.change == "resolved" and not mention.normality)
        ]
        sides: list[str | None] = [*sorted({side for side in named if side})]
        for side in sides or ([None] if named else []):
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
    if any(change.kind != STAYED for change in changes):
        return Progression(tuple(changes), _instruction(changes))
    if stated in OVERALL:
        return Progression(tuple(changes), OVERALL[stated], CHANGED, stated)
    nothing = _is_normal(earlier) and _is_normal(later)
    outcome = UNCHANGED if changes or general or nothing or _says_unchanged(after, before) else NOT_SAID
    return Progression(tuple(changes), NO_CHANGE if outcome == UNCHANGED else "", outcome)


def _without_history(before: str, after: str) -> tuple[str, str]:
    """Both reports without the patient's history, which notes of one patient repeat word for word."""
    first, second = sentences_of(before), sentences_of(after)
    shared = {sentence for sentence in first if sentence in second and HISTORY.search(sentence.casefold())}
    kept = [[sentence for sentence in sentences if sentence not in shared] for sentences in (first, second)]
    return " ".join(kept[0]), " ".join(kept[1])


def _without_advice(text: str) -> str:
    """A report without sentences on what should be done or may come: they say nothing of what is."""
    return " ".join(sentence for sentence in sentences_of(text) if not ADVICE.search(sentence.casefold()))


def _is_normal(summary: Mapping[Key, Mention]) -> bool:
    """Whether a report states that there is something or other not, and that there is nothing."""
    return bool(summary) and all(mention.status == ABSENT for mention in summary.values())


def _says_unchanged(after: str, before: str) -> bool:
    """Whether a current report calls anything unchanged that is no finding: a scar, a granuloma, the silhouette."""
    old = set(sentences_of(before))
    return any(STAYS.search(sentence.casefold()) for sentence in sentences_of(after) if sentence not in old)


def inverse_of(progression: Progression) -> Progression:
    """The way back: what appeared has resolved, what grew has shrunk to its size before, and the other way round.

    It is not what the two reports say in the other order: the earlier one does not look ahead.

    Args:
        progression: by `progression_of`.
    """
    if progression.overall is not None:
        back = {overall.WORSE: overall.BETTER, overall.BETTER: overall.WORSE}.get(progression.overall)
        text = CLEARED if back is None else OVERALL[back]
        return Progression(progression.changes, text, CHANGED, back)
    changes = tuple(
        Change(change.finding, INVERSE[change.kind], change.side, change.size_before, change.size)
        for change in progression.changes
    )
    text = "" if progression.outcome == NOT_SAID else _instruction(changes)
    return Progression(changes, text, progression.outcome)


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
