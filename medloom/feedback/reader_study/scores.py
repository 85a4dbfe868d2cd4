"""Scores of a study: a table of scores, or ratings joined with the key, as arrays of arms, readers and cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import MISSING, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.data.tables import read_table
from medloom.feedback.agreement.measure import first_ratings
from medloom.feedback.agreement.table import SCALES, ratings_of_store, read_ratings, refuse_alike
from medloom.feedback.key import read_key

Floats = NDArray[np.float64]
COLUMNS = ("reader", "case", "truth", "score")
LISTED = 3


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a study.

    Attributes:
        arms: their names; one empty name where there are none.
        readers: their names.
        cases: their names.
        truth: `(cases,)` of 0 and 1.
        values: `(arms, readers, cases)`, nan where a reader did not score a case.
        score: what a score is, in words.
        notes: what a reader has to know.
    """

    arms: list[str]
    readers: list[str]
    cases: list[str]
    truth: Floats
    values: Floats
    score: str
    notes: tuple[str, ...] = ()

    @property
    def lacking(self) -> str:
        """Which scores are missing, in words; empty in a crossed study."""
        gaps = np.isnan(self.values)
        if not gaps.any():
            return ""
        found = []
        for arm, name in enumerate(self.arms):
            for reader, person in enumerate(self.readers):
                count = int(gaps[arm, reader].sum())
                if count:
                    case = self.cases[int(np.argmax(gaps[arm, reader]))]
                    where = f" in arm {name}" if name else ""
                    found.append(f"{person} has no score of {count} of {len(self.cases)} cases{where} (as {case})")
        more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
        return "; ".join(found[:LISTED]) + more


def read_scores(path: Path) -> Scores:
    """A table with columns reader, case, truth, score, and arm where there is more than one.

    Raises:
        UserError: a missing column, a row without reader or case, a truth that is neither 0 nor 1 or that differs
            between rows of a case, a score that is no number, two scores of one case by one reader in one arm, or two
            readers whose names differ by capital letters or spaces only.
    """
    table = read_table(path)
    if table.problems:
        raise UserError(f"{path}, line {table.problems[0].line}: {table.problems[0].reason}; correct the row.")
    places = {name: place for place, name in enumerate(table.header)}
    for name in COLUMNS:
        if name not in places:
            hint = did_you_mean(name, table.header) or "."
            raise UserError(f"{path}: no column {name!r}{hint} Columns: {', '.join(table.header)}.")
    rows = []
    for line, row in zip(table.lines, table.rows, strict=True):
        where = f"{path}, line {line}"
        own = {name: spelled(row[place]) for name, place in places.items()}
        for name in ("reader", "case"):
            if not own[name]:
                raise UserError(f"{where}: no {name}; name one in every row.")
        if own["truth"] not in ("0", "1"):
            raise UserError(f"{where}: truth is {own['truth']!r}; allowed are 0 and 1.")
        rows.append((where, own.get("arm", ""), own["reader"], own["case"], int(own["truth"]), _number(own, where)))
    return _arrays(rows, "score", str(path))


def scores_of_ratings(ratings: Path | None, store: Path | None, key: Path) -> Scores:
    """Ratings of real and synthetic images, with the key that says which they are.

    The score is how surely a rater takes an image for synthetic: its confidence, or 4 less its realism. With arms, each
    arm has its synthetic images, and all arms have the real ones.

    Raises:
        UserError: a rated item that the key lacks, a key without a column, or see `read_ratings`.
    """
    if (ratings is None) is (store is None):
        raise UserError("give --ratings, a table of `medloom rate export`, or --store, the store itself; not both.")
    rated = first_ratings(read_ratings(ratings) if ratings is not None else ratings_of_store(Path(str(store))))
    item = next((name for name in ("confidence", "realism") if name in rated and rated[name].notna().any()), None)
    if item is None:
        raise UserError(f"{ratings or store}: no rating of confidence or realism, from which a score is made.")
    known = read_key(key)
    arms = sorted({own["arm"] for own in known.values() if own["source"] == "synthetic"})
    rows = []
    for record in rated[rated[item].notna()].to_dict("records"):
        where = f"{ratings or store}, line {record['line']}"
        own = known.get(str(record["item"]))
        if own is None:
            raise UserError(f"{where}: item {record['item']!r} is not in {key}; give the key of this study.")
        score = float(record[item]) if item == "confidence" else SCALES["realism"][-1] + 1 - float(record[item])
        for arm in arms if own["source"] == "real" else [own["arm"]]:
            case = own["case"] if own["source"] == "real" or len(arms) > 1 else str(record["item"])
            rows.append((where, arm, str(record["rater"]), case, int(own["truth"]), score))
    found = "confidence that an image is synthetic (1 to 5)" if item == "confidence" else "4 less realism (1 to 3)"
    return _arrays(rows, found, str(ratings or store))


def _number(own: Mapping[str, str], where: str) -> float:
    text = own["score"]
    if text.casefold() in MISSING:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        value = float("inf")
    if not abs(value) < float("inf"):
        raise UserError(f"{where}: score is {text!r}; give a number, or leave the cell empty where there is none.")
    return value


def _arrays(rows: Sequence[tuple[str, str, str, str, int, float]], score: str, where: str) -> Scores:
    if not rows:
        raise UserError(f"{where}: no scores.")
    arms, readers, cases = (sorted(set(names)) for names in zip(*(row[1:4] for row in rows), strict=True))
    if "" in arms and len(arms) > 1:
        line = next(row[0] for row in rows if not row[1])
        raise UserError(f"{line}: no arm, and other rows have one; name one in every row.")
    refuse_alike(readers, where)
    truth: dict[str, int] = {}
    values = np.full((len(arms), len(readers), len(cases)), np.nan)
    places = [{name: place for place, name in enumerate(names)} for names in (arms, readers, cases)]
    seen: set[tuple[int, ...]] = set()
    for line, arm, reader, case, label, value in rows:
        if truth.setdefault(case, label) != label:
            raise UserError(f"{line}: case {case!r} has truth {label}, and {truth[case]} in an earlier row.")
        place = places[0][arm], places[1][reader], places[2][case]
        if place in seen:
            raise UserError(f"{line}: {reader} has a second score of case {case!r}{f' in arm {arm}' if arm else ''}.")
        seen.add(place)
        values[place] = value
    labels = np.array([truth[case] for case in cases], np.float64)
    if min(labels.sum(), (1 - labels).sum()) < 2:
        raise UserError(
            f"{where}: {int(labels.sum())} positive and {int((1 - labels).sum())} negative cases; an analysis needs two"
            " of each."
        )
    return Scores(arms, readers, cases, labels, values, score)
