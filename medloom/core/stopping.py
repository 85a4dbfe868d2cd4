"""Ending on request: Ctrl-C, and the signals of a scheduler (Slurm) or of a terminal that closes."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """The user, or the system, asked the program to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """In words."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


class StopRequest:
    """Whether the program was asked to end.

    Attributes:
        number: of the signal, or None.
        at_once: whether a request interrupts what runs now, and is not only noted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once = False

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within the block a request interrupts what runs; one that came before does so at once."""
        self.at_once = True
        try:
            if self.number is not None:
                raise Stopped(self.number)
            yield
        finally:
            self.at_once = False


@contextmanager
def ending_by_signals() -> Iterator[None]:
    """Within the block a signal that asks the program to end raises Stopped, so that nothing is left half-written."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handling(stop):
        yield


@contextmanager
def noting_stops() -> Iterator[StopRequest]:
    """Within the block a first request to end is noted, and a second one raises Stopped."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        again, request.number = request.number is not None, number
        if again or request.at_once:
            raise Stopped(number)

    with _handling(note):
        yield request


@contextmanager
def _handling(handler: "signal._HANDLER") -> Iterator[None]:
    """Handle SIGNALS within the block; those that the program ignores (as under `nohup`) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may; Python sends it the signals.
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, known in before.items() if known is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
