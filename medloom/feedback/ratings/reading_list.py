"""Reading lists: tables that say which rater sees which image at which place of which session."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.data.manifest import Manifest
from medloom.data.manifest_rows import records_of
from medloom.feedback.ratings.entries import RATE, Item, Plan, Presentation
from medloom.feedback.ratings.images import LIST_COLUMNS, items_of
from medloom.feedback.ratings.rubric import ORIGIN, PAIRS, rubric_of

# Columns that say how an image is shown, and nothing of the image.
SHOWING = ("rater", "session", "place", "item", "not_before_days", "repeat", "rubric")


def lists_plans(
    manifests: Sequence[Manifest], raters: Sequence[str], rubric: str, turn: int, blind: bool
) -> tuple[list[Plan], list[Item]]:
    """The sessions of reading lists, such as the packages of several raters, and the images that they show.

    Args:
        manifests: the lists.
        raters: who read them; of none, all that the lists name.
        rubric: that is asked where a list has no column `rubric`.
        turn: number of the round.
        blind: whether the origin of the images is hidden.

    Raises:
        UserError: a rater whom no list names, or as `list_plans`.
    """
    named = [list(dict.fromkeys(map(spelled, manifest.frame["rater"]))) for manifest in manifests]
    everyone = [name for own in named for name in own]
    if unknown := [rater for rater in raters if rater not in everyone]:
        where = ", ".join(str(manifest.source) for manifest in manifests)
        raise UserError(f"--raters {unknown[0]}: {where} has no rows of this rater; it names {', '.join(everyone)}.")
    plans: list[Plan] = []
    items: dict[str, Item] = {}
    for manifest, own in zip(manifests, named, strict=True):
        if raters and not set(own) & set(raters):
            continue
        chosen = [rater for rater in raters if rater in own]
        more, shown = list_plans(manifest, chosen, rubric, turn, blind)
        plans += more
        items |= {item.name: item for item in shown if item.name not in items}
    return plans, list(items.values())


def list_plans(
    manifest: Manifest, raters: Sequence[str], rubric: str, turn: int, blind: bool
) -> tuple[list[Plan], list[Item]]:
    """The sessions of a reading list, and the images that they show.

    Args:
        manifest: the list.
        raters: who read it, of those that it names; of none, all of them.
        rubric: that is asked where the list has no column `rubric`.
        turn: number of the round.
        blind: whether the origin of the images is hidden.

    Raises:
        UserError: a cell that is missing or no number, a place twice, two rubrics or two waiting times in one session.
    """
    records = records_of(manifest.frame)
    rows: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for record in records:
        where = f"{manifest.source}, line {record['line']}"
        for column in LIST_COLUMNS:
            if not spelled(record.get(column)):
                raise UserError(f"{where}: no {column}; a reading list has {', '.join(LIST_COLUMNS)} in every row.")
        key = spelled(record["rater"]), _whole(record, "session", where, 1)
        place = _whole(record, "place", where, 0)
        if place in rows[key]:
            raise UserError(f"{where}: place {place} of session {key[1]} of {key[0]} stands in another line too.")
        rows[key][place] = record
    named = list(dict.fromkeys(rater for rater, _ in rows))
    chosen = set(raters or named)
    plans = [
        _plan(manifest, rater, session, [own[place] for place in sorted(own)], rubric, turn, blind)
        for (rater, session), own in sorted(rows.items())
        if rater in chosen
    ]
    shown = {each.item for plan in plans for each in plan.presentations}
    return plans, [item for item in items_of(manifest, None, SHOWING) if item.name in shown]


def _plan(
    manifest: Manifest,
    rater: str,
    session: int,
    records: Sequence[Mapping[str, Any]],
    rubric: str,
    turn: int,
    blind: bool,
) -> Plan:
    where = f"{manifest.source}, session {session} of {rater}"
    rubrics = {spelled(record.get("rubric")) or rubric for record in records}
    waits = {spelled(record.get("not_before_days")) or "0" for record in records}
    if len(rubrics) > 1 or len(waits) > 1:
        raise UserError(f"{where}: give all rows of a session one rubric and one not_before_days.")
    asked = rubric_of(rubrics.pop())
    if asked is PAIRS:
        raise UserError(f"{where}: a reading list shows single images; give the rubric quality or origin.")
    if asked is ORIGIN and not blind:
        raise UserError(f"{where}: the rubric origin asks what is said where images are not blinded; give --blind.")
    try:
        days = float(waits.pop())
    except ValueError as error:
        raise UserError(f"{where}: not_before_days is no number of days.") from error
    if not 0 <= days < 10_000:
        raise UserError(f"{where}: not_before_days {days:g}; it has to be at least 0 and below 10000.")
    shown = []
    for record in records:
        repeat = _whole(record, "repeat", f"{manifest.source}, line {record['line']}", 0) if _says(record) else 0
        shown.append(Presentation(spelled(record["item"]), repeat=repeat))
    return Plan(rater, session, RATE, asked.name, turn, 0, blind, (str(manifest.source),), days, tuple(shown))


def _says(record: Mapping[str, Any]) -> bool:
    return bool(spelled(record.get("repeat")))


def _whole(record: Mapping[str, Any], column: str, where: str, smallest: int) -> int:
    text = spelled(record[column])
    if not text.isascii() or not text.isdecimal() or int(text) < smallest:
        raise UserError(f"{where}: {column} {text!r} is no whole number of at least {smallest}.")
    return int(text)
