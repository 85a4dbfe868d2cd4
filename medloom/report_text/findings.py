"""What a report says of findings, by rules: present, absent or uncertain; side, size and change.

The vocabulary and every phrase stand in `finding_terms` and `finding_cues`. The rules, sentence by sentence:

- Negations and doubts before a finding reach forward to the end of their clause ("but", "however", "except", a
  semicolon, "and the", ...), so over lists: "no pneumothorax, effusion or edema". A doubt ends at a comma too, unless
  alternatives follow. Those after a finding ("is not seen", "cannot be excluded") reach back over a list.
- A negation outweighs a doubt. "Versus" and "or" between findings that are not negated make both uncertain.
  "Consistent with" states a finding, "likely" and "may" do not. "Upper limits of normal" is normal, "borderline" is
  uncertain.
- A phrase of normality says that the findings it covers are absent (`NORMALITY`): "the lungs are clear" those of the
  lung, "no acute cardiopulmonary abnormality" consolidation, edema, effusion and pneumothorax.
- Side, size and change are of the words between the finding and its neighbours; those of a list ("left atelectasis
  versus infiltrate") are shared. Of two sizes the larger holds. An absence with a size or with "new" is one of that
  kind alone: "no large effusion" leaves a small one possible.
"""

from collections.abc import Iterable
from dataclasses import replace

from medloom.report_text.finding_mentions import ABSENT, PRESENT, UNCERTAIN, Mention
from medloom.report_text.finding_rules import mentions_in
from medloom.report_text.sentences import sentences_of

RANK = {PRESENT: 0, UNCERTAIN: 1, ABSENT: 2}
Key = tuple[str, str | None]


def findings_of(text: str) -> tuple[Mention, ...]:
    """The mentions of findings in a text, in its order."""
    return tuple(mention for sentence in sentences_of(text) for mention in mentions_in(sentence))


def summary_of(text: str) -> dict[Key, Mention]:
    """One mention for each finding and side, by the rules of `merged`."""
    return merged(findings_of(text))


def merged(mentions: Iterable[Mention]) -> dict[Key, Mention]:
    """Merge mentions.

    "Both" counts as left and as right. Present outweighs uncertain, which outweighs absent. Size and change are the
    first that a mention of that status states; an absence without size and change outweighs one with them. What is said
    without a side is merged into the sides where it has the same status, and gives way to a side that is present or
    uncertain where it is an absence.

    Returns:
        (finding, side) to its mention; the side is left, right or None.
    """
    by_key: dict[Key, list[Mention]] = {}
    for mention in mentions:
        for side in ("left", "right") if mention.side == "both" else (mention.side,):
            by_key.setdefault((mention.finding, side), []).append(replace(mention, side=side))
    return _with_sides({key: _one(same) for key, same in by_key.items()})


def _one(mentions: list[Mention]) -> Mention:
    status = min((mention.status for mention in mentions), key=RANK.__getitem__)
    same = [mention for mention in mentions if mention.status == status]
    if status == ABSENT:
        # Said plainly, then with its change, then of one kind alone, and by a phrase of normality last.
        return min(same, key=lambda mention: (mention.normality, is_partial(mention), mention.change is None))
    size, change = (next((given for m in same if (given := getattr(m, what))), None) for what in ("size", "change"))
    return replace(same[0], size=size, change=change)


def is_partial(mention: Mention) -> bool:
    """Whether an absence is that of one kind alone: "no large effusion", "no new consolidation"."""
    return mention.status == ABSENT and (mention.size is not None or mention.change not in (None, "resolved"))


def _with_sides(summary: dict[Key, Mention]) -> dict[Key, Mention]:
    """Merge what has no side into what has one."""
    result = dict(summary)
    for (finding, side), general in summary.items():
        sided = [key for key in summary if key[0] == finding and key[1] is not None]
        if side is not None or not sided:
            continue
        alike = [key for key in sided if summary[key].status == general.status]
        for key in alike:
            result[key] = replace(_one([summary[key], replace(general, side=key[1])]), side=key[1])
        if alike or (general.status == ABSENT and any(summary[key].status != ABSENT for key in sided)):
            del result[finding, side]
    return result
