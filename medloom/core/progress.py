"""Messages and progress with rate and time left: logged by the library, shown on the console by the command line."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from medloom.core.cells import printable

if TYPE_CHECKING:
    from rich.console import Console

LOG = logging.getLogger("medloom")
# Where there is no terminal (a log file, a cluster's output), a line is printed this often instead of a bar.
SECONDS_A_LINE = 30.0


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Move by `count`; `note` is shown beside the bar."""


@dataclass(frozen=True)
class Progress:
    """How far some work is.

    Attributes:
        what: the work, e.g. "training".
        done: how much of it is done.
        total: how much there is in all.
        unit: what is counted, e.g. "images".
        note: what else is known of it.
        rate: units a second since this process began with it; 0 where that is not known yet.
    """

    what: str
    done: int
    total: int
    unit: str
    note: str = ""
    rate: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until it is done, at the present rate; None where that is not known."""
        return (self.total - self.done) / self.rate if self.rate else None


Listener = Callable[[Progress], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block the listener is given the progress of all work of this process, each time it moves.

    Examples:
        >>> with listening(lambda now: print(now.what, now.done, "of", now.total)):
        ...     with progress("reading", 2, "images") as advance:
        ...         advance()
        reading 0 of 2
        reading 1 of 2
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def console() -> "Console":
    """A console on standard error, so that standard output holds results only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class _ConsoleHandler(logging.Handler):
    """Prints messages to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        # Messages quote cells of tables, which may hold anything.
        for line in record.getMessage().splitlines():
            console().print(printable(line), markup=False)


def show_on_console() -> None:
    """Show messages and progress of this process on standard error, as the command line does."""
    if not any(isinstance(handler, _ConsoleHandler) for handler in LOG.handlers):
        LOG.addHandler(_ConsoleHandler())
    LOG.setLevel(logging.INFO)


def say(message: str) -> None:
    """Log a line for the user."""
    LOG.info(message)


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def quiet() -> Iterator[None]:
    """Neither messages nor progress within the block."""
    level = LOG.level
    LOG.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOG.setLevel(level)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0, shown: bool = True) -> Iterator[Advance]:
    """Progress with rate and time left: a bar in a terminal, else a line now and then.

    Args:
        what: the work, e.g. "training".
        total: how much there is in all.
        unit: what is counted, e.g. "images".
        done: how much an earlier, interrupted run has done.
        shown: false on all but the main process.
    """
    if not shown:
        yield lambda count=1, note="": None
        return
    with _on_console(what, total, unit, done) as move:
        if not _listeners:
            yield move
            return
        now, started = Progress(what, done, total, unit), time.monotonic()

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal now
            move(count, note)
            passed = max(time.monotonic() - started, 1e-9)
            far = now.done + count
            now = replace(now, done=far, note=note or now.note, rate=(far - done) / passed)
            for listener in _listeners:
                listener(now)

        for listener in _listeners:
            listener(now)
        yield advance


@contextmanager
def _on_console(what: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    """A bar in a terminal, else a line now and then."""
    if not LOG.isEnabledFor(logging.INFO):
        yield lambda count=1, note="": None
    elif not (console().is_terminal and any(isinstance(handler, _ConsoleHandler) for handler in LOG.handlers)):
        first, started = done, time.monotonic()
        printed = started

        def advance(count: int = 1, note: str = "") -> None:
            """A line every SECONDS_A_LINE, and one at the end."""
            nonlocal done, printed
            done += count
            now = time.monotonic()
            if done < total and now - printed < SECONDS_A_LINE:
                return
            printed = now
            rate = (done - first) / max(now - started, 1e-9)
            left = duration((total - done) / rate) if rate else "?"
            say(f"{what}: {done}/{total} {unit}, {rate:.3g} {unit}/s, {left} left {note}".rstrip())

        yield advance
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

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
        with Bars(*columns, console=console(), refresh_per_second=2) as bars:
            task = bars.add_task(what, total=total, completed=done, unit=unit, rate="", note="")

            def move(count: int = 1, note: str = "") -> None:
                bars.advance(task, count)
                speed = bars.tasks[0].speed
                bars.update(
                    task, rate=f"{speed:.3g} {unit}/s" if speed else "", note=note or bars.tasks[0].fields["note"]
                )

            yield move
