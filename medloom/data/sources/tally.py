"""What the steps of an import left out or found lacking, counted, with the first few names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NAMED = 5
LEFT_OUT = "left out"


@dataclass(frozen=True)
class Entry:
    """One count.

    Attributes:
        rule: what was lacking, or asked for and not met.
        count: how many.
        what: of what: images, reports.
        fate: what became of them.
        names: the first few.
    """

    rule: str
    count: int
    what: str
    fate: str
    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without names."""
        return {"rule": self.rule, "count": self.count, "of": self.what, "fate": self.fate}


@dataclass
class Tally:
    """The counts of an import, in the order of its steps.

    Attributes:
        entries: one for each rule that was asked, those that met nothing included.
    """

    entries: list[Entry] = field(default_factory=list)

    def add(self, rule: str, count: int, what: str, fate: str = LEFT_OUT, names: Iterable[str] = ()) -> None:
        """Count what a rule met."""
        self.entries.append(Entry(rule, count, what, fate, first_of(names)))

    def skip_or_refuse(self, skip: bool, where: str, lacking: str, names: list[str], total: int) -> None:
        """Count images that cannot be used, where the user said to go on without them.

        Args:
            skip: whether the user did (`--skip-bad`).
            where: the folder or table, for the error.
            lacking: what they lack: "a file", "a split".
            names: of the images.
            total: images in all.

        Raises:
            UserError: there are such images, and they are not to be skipped; or none is left.
        """
        self.add(f"{lacking} for each image", len(names), "images", names=names)
        listed = ", ".join(first_of(names)) + (", ..." if len(names) > NAMED else "")
        if names and not skip:
            raise UserError(
                f"{where}: {len(names)} of {total} images lack {lacking} ({listed}); complete the data, or go on"
                " without these images with --skip-bad."
            )
        if names and len(names) == total:
            raise UserError(f"{where}: each of the {total} images lacks {lacking} ({listed}); complete the data.")


def first_of(names: Iterable[str]) -> tuple[str, ...]:
    """The first few names."""
    return tuple(str(name) for name, _ in zip(names, range(NAMED), strict=False))


def keep_values(frame: "pd.DataFrame", column: str, wanted: Sequence[str], tally: Tally) -> "pd.DataFrame":
    """The rows whose cell is one of the values, in any case; all of them where no value is named.

    Args:
        frame: the rows.
        column: the column, which the option is called by.
        wanted: values.
        tally: gets the count.

    Raises:
        UserError: a value that no row has.
    """
    if not wanted:
        return frame
    known = {value.casefold(): value for value in frame[column].unique() if value}
    if unknown := [value for value in wanted if value.casefold() not in known]:
        raise UserError(f"--{column} {unknown[0]}: no image has it; there are {', '.join(sorted(known.values()))}.")
    kept = frame[column].str.casefold().isin([value.casefold() for value in wanted])
    tally.add(f"{column} {' or '.join(wanted)}", int((~kept).sum()), "rows")
    return frame[kept].reset_index(drop=True)
