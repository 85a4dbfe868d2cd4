"""The console: messages to standard error, and progress bars with rate and time left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Move by `count`; `note` is shown beside the bar."""
        ...


def console() -> "Console":
    """A console on standard error, so that standard output holds results only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a line for the user."""
    console().print(message, markup=False)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0, shown: bool = True) -> Iterator[Advance]:
    """A progress bar with rate and time left.

    Args:
        what: the work, e.g. "training".
        total: how much there is in all.
        unit: what is counted, e.g. "images".
        done: how much an earlier, interrupted run has done.
        shown: false on all but the main process.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console(), disable=not shown, refresh_per_second=2) as bars:
        task = bars.add_task(what, total=total, completed=done, unit=unit, rate="", note="")

        def advance(count: int = 1, note: str = "") -> None:
            bars.advance(task, count)
            speed = bars.tasks[0].speed
            rate = f"{speed:.3g} {unit}/s" if speed else ""
            bars.update(task, rate=rate, note=note)

        yield advance
