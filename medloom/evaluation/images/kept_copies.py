"""What a search for copies keeps on disk: matches in parts, so that it resumes, and which edited images were found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError, first_line
from medloom.core.files import atomic_file, hash_json, read_json, write_json
from medloom.evaluation.copies.matches import Matches

QUERIES = "queries"

Planted = Mapping[str, NDArray[np.bool_]]


class KeptMatches:
    """The matches of all images that were ever compared with a set; also of those that are in a smaller set now.

    Args:
        folder: of the parts; is made with the first of them.

    Raises:
        UserError: a part is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place: dict[str, int] = {}
        self._views: list[Matches] = []
        # A name with a dot is of a part that was not finished.
        for path in sorted(folder.glob("[!.]*.npz")):
            self._take(*_read(path))

    def lacking(self, queries: Sequence[str]) -> NDArray[np.intp]:
        """The rows of queries whose matches are not known."""
        return np.array([row for row, query in enumerate(queries) if query not in self._place], np.intp)

    def of(self, queries: Sequence[str]) -> list[Matches]:
        """The matches of each view of queries that are all known."""
        places = [self._place[query] for query in queries]
        return [view.at(places) for view in self._views]

    def keep(self, queries: Sequence[str], views: Sequence[Matches]) -> None:
        """Write the matches of some queries as a part."""
        arrays: dict[str, Any] = {QUERIES: np.array(queries)}
        for view, own in enumerate(views):
            arrays |= {f"{view}_{field.name}": getattr(own, field.name) for field in fields(Matches)}
        path = self.folder / f"{hash_json(list(queries))}.npz"
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        self._take(queries, views)

    def _take(self, queries: Sequence[str], views: Sequence[Matches]) -> None:
        first = len(self._views[0]) if self._views else 0
        self._place |= {query: first + row for row, query in enumerate(queries)}
        known = self._views or [view.at([]) for view in views]
        self._views = [Matches.joined(pair) for pair in zip(known, views, strict=True)]


def _read(path: Path) -> tuple[list[str], list[Matches]]:
    """The queries of a part, and the matches of each view.

    Raises:
        UserError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as table:
            views = len(table.files) // len(fields(Matches))
            return [str(query) for query in table[QUERIES]], [
                Matches(**{field.name: table[f"{view}_{field.name}"] for field in fields(Matches)})
                for view in range(views)
            ]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} is not a file of matches ({first_line(error)}); remove it.") from error


def kept_planted(path: Path, edits: Sequence[str], count: int, search: Callable[[], Planted]) -> Planted:
    """Which edited images were found before, or are found now and kept: edit -> `(count,)`.

    Args:
        path: of the file, whose name has to tell everything that is found apart.
        edits: their names.
        count: of edited images.
        search: looks for them.

    Raises:
        UserError: a damaged file.
    """
    if not path.is_file():
        found = search()
        write_json(path, {edit: own.astype(int).tolist() for edit, own in found.items()})
        return found
    kept = read_json(path)
    whole = isinstance(kept, dict) and all(
        isinstance(own := kept.get(edit), list) and len(own) == count and set(own) <= {0, 1} for edit in edits
    )
    if not whole:
        raise UserError(f"{path} is not a file of edited copies that were found; remove it.")
    return {edit: np.array(kept[edit], bool) for edit in edits}
