"""Pairs of a patient's images over time, chosen by explicit rules that count what they reject."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations, groupby, pairwise
from math import floor

from medloom.core.errors import UserError
from medloom.data.manifest import Manifest, list_problems
from medloom.data.splits import NAMES
from medloom.data.tables import Problem

ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ](?:(\d{2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?.*|.*))?")
PACKED = re.compile(r"(1[89]\d{2}|2[0-3]\d{2})(\d{2})(\d{2})(?:\.0)?")
YEAR = re.compile(r"(?:19|20)\d\d(?:\.0)?|2100(?:\.0)?")
WAYS = ("consecutive", "all")


@dataclass(frozen=True)
class Rules:
    """Which pairs of images are selected.

    Attributes:
        views: allowed views, case-insensitive; none for all.
        min_days: fewest days between the two images.
        max_days: most days between the two images, or None.
        pairs: consecutive (each image with the next one), or all.
        mixed_views: whether to pair images of different views as well.
        study: column of the study; one image per study is used. By default the images of one day are a study.
        both_ways: whether pairs of the split train are used the other way round as well, the later image first.
    """

    views: tuple[str, ...] = ()
    min_days: float = 0.0
    max_days: float | None = None
    pairs: str = "consecutive"
    mixed_views: bool = False
    study: str | None = None
    both_ways: bool = False

    def __post_init__(self) -> None:
        if self.pairs not in WAYS:
            raise UserError(f"--pairs {self.pairs}: allowed are {', '.join(WAYS)}.")
        if self.min_days < 0 or (self.max_days is not None and self.max_days < self.min_days):
            raise UserError(f"--min-days {self.min_days:g} and --max-days {self.max_days}: 0 <= min-days <= max-days.")


@dataclass(frozen=True)
class StudyPair:
    """Two images of a patient.

    Attributes:
        before: row of the prior image.
        after: row of the other one.
        days: calendar days between them.
        back: whether the prior image is the later one.
    """

    before: int
    after: int
    days: int
    back: bool = False


@dataclass
class Journeys:
    """The pairs that the rules allow.

    Attributes:
        pairs: by patient, in chronological order; the way back of a pair follows it.
        rejected: what each rule rejected, in the order of the rules: (rule, how many, of what).
    """

    pairs: list[StudyPair]
    rejected: list[tuple[str, int, str]] = field(default_factory=list)

    def reject(self, rule: str, count: int, what: str) -> None:
        """Record what a rule rejected."""
        self.rejected.append((rule, count, what))

    def lines(self) -> list[str]:
        """The counts as sentences."""
        return [f"{rule}: {count} {what} left out" for rule, count, what in self.rejected]


def choose_pairs(manifest: Manifest, rules: Rules, skip_bad: bool = False) -> Journeys:
    """The pairs of a manifest's images that the rules allow; both images have the same patient, modality and view.

    Days are compared within a patient only, because the dates of each patient may be shifted differently.

    Raises:
        UserError: no column of times, a time that cannot be read, an unknown view or study column, or no pair left
            (lists what each rule rejected).
    """
    journeys, frame = Journeys([]), manifest.frame
    if "time" not in frame:
        raise UserError(
            f"{manifest.source}: no column of times to order a patient's images; name one with"
            " --columns time=NAME (dates as 2021-03-14 or 20210314, or days as numbers)."
        )
    days, problems = read_days(frame["time"].tolist(), frame["line"].tolist())
    if problems and not skip_bad:
        raise UserError(list_problems(str(manifest.source), problems, len(frame)))
    journeys.reject("a time that can be read", len(problems), "images")
    views = frame["view"].tolist() if "view" in frame else [None] * len(frame)
    columns = zip(frame["patient_id"], frame["modality"], views, days, strict=True)
    rows = [
        _Row(
            position,
            view or "",
            day,
            (str(patient), str(modality), "" if rules.mixed_views else (view or "").casefold()),
        )
        for position, (patient, modality, view, day) in enumerate(columns)
        if day is not None
    ]
    if rules.views:
        wanted = {view.casefold() for view in rules.views}
        known = {row.view.casefold(): row.view or "none" for row in rows}
        if unknown := [view for view in rules.views if view.casefold() not in known]:
            raise UserError(f"--view {unknown[0]}: no image has it; views: {', '.join(sorted(known.values()))}.")
        viewed = [row for row in rows if row.view.casefold() in wanted]
        journeys.reject(f"view {' or '.join(rules.views)}", len(rows) - len(viewed), "images")
        rows = viewed
    # The first image of each study, modality and view; without a study column the images of one day are a study.
    study = rules.study
    if study is not None and study not in frame:
        raise UserError(
            f"--study-column {study}: {manifest.source} has columns {', '.join(manifest.clinical_columns)}."
        )
    names: Sequence[object] = frame[study].tolist() if study else [None] * len(manifest)
    first: dict[tuple[object, ...], _Row] = {}
    for row in sorted(rows, key=lambda row: (row.days, row.position)):
        first.setdefault((*row.group, names[row.position] if study else floor(row.days)), row)
    journeys.reject("one image per study", len(rows) - len(first), "images")
    rows = sorted(first.values(), key=lambda row: (*row.group, row.days, row.position))
    candidates: list[StudyPair] = []
    alone = 0
    for _, members in groupby(rows, key=lambda row: row.group):
        own = list(members)
        alone += len(own) == 1
        chosen: Iterable[tuple[_Row, _Row]] = pairwise(own) if rules.pairs == "consecutive" else combinations(own, 2)
        candidates += [
            StudyPair(one.position, other.position, floor(other.days) - floor(one.days)) for one, other in chosen
        ]
    same = "modality" if rules.mixed_views else "modality and view"
    journeys.reject(f"another image of the patient in the same {same}", alone, "images")
    journeys.pairs = [pair for pair in candidates if pair.days >= rules.min_days]
    journeys.reject(f"at least {rules.min_days:g} days between", len(candidates) - len(journeys.pairs), "pairs")
    if rules.max_days is not None:
        late = journeys.pairs
        journeys.pairs = [pair for pair in late if pair.days <= rules.max_days]
        journeys.reject(f"at most {rules.max_days:g} days between", len(late) - len(journeys.pairs), "pairs")
    if not journeys.pairs:
        raise UserError(f"{manifest.source}: no pair is left; {'; '.join(journeys.lines())}.")
    if rules.both_ways and "split" in frame:
        training = [NAMES.get(str(cell).casefold()) == "train" for cell in frame["split"]]
        # A patient's rows have one split.
        journeys.pairs = [way for pair in journeys.pairs for way in _ways(pair, training[pair.after])]
    return journeys


def _ways(pair: StudyPair, both: bool) -> list[StudyPair]:
    return [pair, StudyPair(pair.after, pair.before, pair.days, back=True)] if both else [pair]


@dataclass(frozen=True)
class _Row:
    """A row of the manifest; `group` is what the images of a pair have in common."""

    position: int
    view: str
    days: float
    group: tuple[str, str, str]


def read_days(cells: Sequence[object], lines: Sequence[int]) -> tuple[list[float | None], list[Problem]]:
    """Times as days: dates (2021-03-14, optionally with a time of day; 20210314) or numbers, one kind per column.

    Args:
        cells: of the column.
        lines: of the file, for problems.

    Returns:
        Days, None for a cell that cannot be read; and the problems. Years alone are no days.
    """
    texts = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
    given = [text for text in texts if text]
    # The form of more than half of the cells.
    counts = ((form, sum(_date(form.fullmatch(text)) is not None for text in given)) for form in (ISO, PACKED))
    form = next((form for form, count in counts if count * 2 > len(given)), None)
    if form is None and given and all(map(YEAR.fullmatch, given)):
        why = "is a year, and no day; give dates, or days from an event"
        found = [
            Problem(line, f"column of times: {text or 'empty'} {why}") for line, text in zip(lines, texts, strict=True)
        ]
        return [None] * len(texts), found
    days = [(_date(form.fullmatch(text)) if form else _number(text)) if text else None for text in texts]
    return days, [
        Problem(line, f"column of times: {text!r} cannot be read" if text else "column of times: empty")
        for line, text, day in zip(lines, texts, days, strict=True)
        if day is None
    ]


def _date(match: re.Match[str] | None) -> float | None:
    if match is None:
        return None
    try:
        year, month, day, *clock = match.groups()
        hours, minutes, seconds = (float(part or 0) for part in (*clock, *(None,) * 3)[:3])
        return date(int(year), int(month), int(day)).toordinal() + (hours + minutes / 60 + seconds / 3600) / 24
    except ValueError:
        # There is no such day; the caller lists it as a problem.
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e7 else None
