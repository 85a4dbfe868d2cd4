"""Ratings as tables: what training and statistics read, from a copy of the store as it is at one moment."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.database import Database, copy_database
from medloom.core.errors import UserError
from medloom.data.columns import PATH_COLUMNS
from medloom.data.paths import absolute, portable
from medloom.data.tables import write_csv
from medloom.feedback.ratings.entries import RATE, RATING, Item
from medloom.feedback.ratings.rubric import PAIRS, QUALITY, level_of
from medloom.feedback.ratings.store import APPLICATION, KIND, OPTION, REMEDY, SCHEMAS, item_of, rating_of

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("rating_id", "rater", "session", "round", "item", "path", "text", "modality")
LAST = (
    "rubric", "realism", "match", "level", "confidence", "flags", "comment", "seconds", "time", "repeat", "source",
)  # fmt: skip
OF_PAIRS = (
    "rating_id", "rater", "session", "round", "item", "path", "other_item", "other_path", "text", "modality",
    "preferred", "seconds", "time",
)  # fmt: skip
# Of a column of a row that has the name of one of a rating.
PREFIX = "row_"


@dataclass(frozen=True)
class Table:
    """A table of ratings.

    Attributes:
        columns: in order.
        rows: as cells by column; columns that a row lacks are empty.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    def write(self, path: Path) -> None:
        """Write it as CSV; paths become relative to its folder where they can."""
        folder = absolute(path).parent
        located = (*PATH_COLUMNS, "other_path")
        cells = [
            [
                portable(row[name], folder) if name in located and row.get(name) else row.get(name)
                for name in self.columns
            ]
            for row in self.rows
        ]
        write_csv(path, self.columns, cells)


def snapshot(store: Path, to: Path) -> Path:
    """Copy a store as it is at one moment, also while a studio writes it; returns the copy.

    Args:
        store: the store.
        to: the copy; must not be there.

    Raises:
        UserError: there is no such store, it is none or damaged, or there is something at `to`.
    """
    if not store.is_file():
        raise UserError(f"{OPTION} {store}: there is no such store of ratings; `medloom studio --rate` makes one.")
    if to.exists():
        raise UserError(f"{to} is there already; name a file that is not there.")
    copy_database(store, to, KIND, REMEDY, APPLICATION)
    return to


def read_ratings(store: Path) -> tuple[Table, Table]:
    """The ratings of a store that count, as tables: of single images, and of pairs.

    A rating that was undone or given again does not count, and none of a practice does.

    Args:
        store: the store; it is read from a copy, and nothing waits for it.

    Raises:
        UserError: there is no such store, it is none or damaged, or another version of medloom wrote it.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Database(snapshot(store, Path(folder) / "ratings.db"), SCHEMAS, KIND, REMEDY, APPLICATION)
        items = {item.name: item for item in map(item_of, copy.rows("select * from items"))}
        query = (
            "select s.rater, s.number, s.round, s.rubric, p.item, p.other, p.repeat, r.*"
            " from ratings r join presentations p on p.id = r.presentation join sessions s on s.id = p.session"
            " where r.number in (select max(number) from ratings group by presentation)"
            " and r.kind = ? and s.mode = ? order by s.rater, s.number, p.place"
        )
        found = copy.rows(query, RATING, RATE)
    singles, pairs, own = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, None]()
    for rater, number, turn, rubric, name, other, repeat, *entry in found:
        rating, item = rating_of(entry), items[name]
        common = {
            "rating_id": rating.id,
            "rater": rater,
            "session": number,
            "round": turn,
            "item": name,
            "path": str(item.path),
            "text": item.text or None,
            "modality": item.modality,
            "seconds": round(rating.seconds, 3),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(rating.time)),
        }
        if rubric == PAIRS.name:
            beside = {"other_item": other, "other_path": str(items[other].path)}
            pairs.append({**common, **beside, **rating.answers})
            continue
        cells = _cells(item)
        own |= dict.fromkeys(cells)
        level = level_of(rating.answers["realism"], rating.answers["match"]) if rubric == QUALITY.name else None  # type: ignore[arg-type]
        said = {"flags": " ".join(rating.flags) or None, "comment": rating.comment or None, "level": level}
        known = {"rubric": rubric, "repeat": repeat, "source": item.source or None}
        singles.append({**cells, **common, **said, **known, **rating.answers})
    return Table((*FIRST, *own, *LAST), tuple(singles)), Table(OF_PAIRS, tuple(pairs))


def _cells(item: Item) -> dict[str, Any]:
    """The further cells of an item's row; a column of a rating's name has another one."""
    taken = {*FIRST, *LAST}
    return {f"{PREFIX}{name}" if name in taken else name: cell for name, cell in item.cells.items()}


def ratings_table(store: Path) -> "pd.DataFrame":
    """The ratings of single images that count, a row for each, with absolute paths.

    Args:
        store: the store; it is read from a copy, and nothing waits for it.

    Raises:
        UserError: see `read_ratings`.

    Examples:
        >>> from pathlib import Path
        >>> from medloom.feedback.ratings.export import ratings_table
        >>> from medloom.feedback.ratings.store import RatingStore
        >>> _ = RatingStore(Path("ratings.db"))
        >>> len(ratings_table(Path("ratings.db")))
        0
    """
    return _framed(read_ratings(store)[0])


def pairs_table(store: Path) -> "pd.DataFrame":
    """The comparisons of two images that count, a row for each; see `ratings_table`."""
    return _framed(read_ratings(store)[1])


def _framed(table: Table) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame([[row.get(name) for name in table.columns] for row in table.rows], columns=list(table.columns))
    for name in ("realism", "match", "level", "confidence"):
        if name in frame:
            # Whole numbers also where some are missing.
            frame[name] = frame[name].astype("Int64")
    return frame


def pairs_path(out: Path) -> Path:
    """The table of pairs next to that of single images.

    >>> pairs_path(Path("ratings.csv")).name
    'ratings-pairs.csv'
    """
    return out.with_name(f"{out.stem}-pairs{out.suffix}")
