"""Counts of what the steps of an import left out or found missing, with a few examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medloom.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NAMED = 5
LEFT_OUT = "left out"


@dataclass(frozen=True)
class Entry:
    """One count.

    Attributes:
        rule: the requirement.
        count: number of entries that do not meet it.
        what: kind of the entries: images, reports.
        fate: how they were treated.
        names: the first few of them.
    """

    rule: str
    count: int
    what: str
    fate: str
    names: tuple[str, ...]


@dataclass
class Tally:
    """The counts of an import, in the order of its steps.

    Attributes:
        entries: one per rule, including rules that everything meets.
    """

    entries: list[Entry] = field(default_factory=list)

    def add(self, rule: str, count: int, what: str, fate: str = LEFT_OUT, names: Iterable[str] = ()) -> None:
        """Record the count of a rule."""
        self.entries.append(Entry(rule, count, what, fate, first_of(names)))

    def skip_or_refuse(self, skip: bool, where: str, lacking: str, names: list[str], total: int) -> None:
        """Count incomplete images that are skipped, or refuse them.

        Args:
            skip: skip them (`--skip-bad`).
            where: the folder or table, for the message.
            lacking: what they lack: "a file", "a split".
            names: of the incomplete images.
            total: number of all images.

        Raises:
            UserError: there are incomplete images, and they are not skipped, or none remains.
        """
        self.add(f"{lacking} for each image", len(names), "images", names=names)
        listed = ", ".join(first_of(names)) + (", ..." if len(names) > NAMED else "")
        if names and not skip:
            raise UserError(
                f"{where}: {len(names)} of {total} images lack {lacking} ({listed}); complete the data, or leave"
                " these images out with --skip-bad."
            )
        if names and len(names) == total:
            raise UserError(f"{where}: each of the {total} images lacks {lacking} ({listed}); complete the data.")


def first_of(names: Iterable[str]) -> tuple[str, ...]:
    """The first few names."""
    return tuple(str(name) for name, _ in zip(names, range(NAMED), strict=False))


def keep_values(frame: "pd.DataFrame", column: str, wanted: Sequence[str], tally: Tally) -> "pd.DataFrame":
    """The rows whose cell is one of the values, ignoring case; all rows without values.

    Args:
        frame: the rows.
        column: the column, and the name of the option.
        wanted: values.
        tally: records the count.

    Raises:
        UserError: a value that no row has.
    """
    if not wanted:
        return frame
    known = {value.casefold(): value for value in frame[column].unique() if value}
    if unknown := [value for value in wanted if value.casefold() not in known]:
        raise UserError(
            f"--{column} {unknown[0]}: no image has it; the values are {', '.join(sorted(known.values()))}."
        )
    chosen = frame[column].str.casefold().isin([value.casefold() for value in wanted])
    tally.add(f"{column} {' or '.join(wanted)}", int((~chosen).sum()), "rows")
    return frame[chosen].reset_index(drop=True)
