"""Keeping a worker alive: it is started with the server, started again when it dies, and ends with the server."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from medloom.studio.web.studio import Settings

LOG_FILE = "worker.log"
# Seconds before a worker that died is started again; twice as long each time, up to the second number.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
# Seconds that a worker may take to end.
ENDING = 20.0


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    """Within the block a worker runs the jobs of the studio."""
    over = threading.Event()
    supervisor = Supervisor(settings, over)
    supervisor.start()
    try:
        yield
    finally:
        over.set()
        supervisor.end()


class Supervisor(threading.Thread):
    """Starts the worker, and starts it again.

    Args:
        settings: of the studio.
        over: is set when no worker is wanted any more.
    """

    def __init__(self, settings: Settings, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._over = over
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Keep a worker running."""
        wait = FIRST_WAIT
        while not self._over.is_set():
            with self._log() as log:
                words = [str(self._settings.folder), self._settings.device, *map(str, self._settings.models)]
                command = [sys.executable, "-m", "medloom.studio.work.worker", *words]
                # The worker ends when this pipe does, however this process ends.
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603
                self._process.wait()
            self._over.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _log(self) -> IO[bytes]:
        """The log of the worker; none on a disk that is full."""
        try:
            return (self._settings.folder / LOG_FILE).open("ab")
        except OSError:
            return Path(os.devnull).open("ab")

    def end(self) -> None:
        """End the worker; the job that runs is queued again."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
