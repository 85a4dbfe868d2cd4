"""The worker: a process apart from the page server that runs one job after the other, with models kept in memory.

    python -m medloom.studio.work.worker FOLDER DEVICE MODEL...

It ends when its standard input does, which is when the page server ends, however that ends.
"""

import _thread
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.output_folder import output_files
from medloom.core.progress import LOG
from medloom.generators.storage import load, open_generator, retaining
from medloom.studio.catalogue import Catalogue
from medloom.studio.model_facts import facts_of, stamp_of
from medloom.studio.store.jobs import Job
from medloom.studio.store.store import Store
from medloom.studio.work.runner import run_job

# How far the worker steps back behind the page server.
NICENESS = 5
# Models in memory at a time.
MODELS = 2
# Seconds between two looks at the store, and between two at the files of models.
EVERY, MODELS_EVERY = 0.1, 2.0
# Seconds until a job that does not end when it is cancelled takes the worker with it.
PATIENCE = 30.0
# Seconds that the worker of an earlier server may take to end.
ENDING = 60.0


class Watcher(threading.Thread):
    """Ends the job that runs when its user cancels it, and the worker when the server is gone.

    Attributes:
        ending: whether the worker is to end.

    Args:
        store: of the studio.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self._store = store
        self._job: Job | None = None
        self.ending = False

    def watch(self, job: Job | None) -> None:
        """Watch a job from now on."""
        self._job = job

    def run(self) -> None:
        """Look again and again."""
        asked: tuple[str, float] | None = None
        while True:
            time.sleep(EVERY)
            job = self._job
            if job is None or not self._store.jobs.is_cancelling(job):
                asked = None
            elif asked is None or asked[0] != job.id:
                asked = job.id, time.monotonic()
                _thread.interrupt_main()
            elif time.monotonic() - asked[1] > PATIENCE:
                # Its state is that of a worker that was killed; the next one resumes it.
                os._exit(1)

    def end_with(self, parent: int) -> None:
        """End the worker when a stream ends, in a thread of its own.

        Args:
            parent: file descriptor that the server holds open.
        """

        def wait() -> None:
            with suppress(OSError):
                while os.read(parent, 1024):
                    pass
            self.ending = True
            _thread.interrupt_main()
            time.sleep(PATIENCE)
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def main(words: Sequence[str]) -> int:
    """Run jobs until the server ends; returns the exit status."""
    folder, device, *models = words
    if hasattr(os, "nice"):
        # Pages are to answer while images are made.
        os.nice(NICENESS)
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    LOG.setLevel(logging.INFO)
    # Messages of commands go into the store; some quote prompts, which are in no log.
    LOG.propagate = False
    store = Store(Path(folder))
    watcher = Watcher(store)
    try:
        watcher.end_with(sys.stdin.fileno())
        _wait_for_others(store.folder / "worker")
        with output_files(store.folder / "worker"), retaining(MODELS):
            store.jobs.requeue()
            watcher.start()
            _serve(store, watcher, device, Catalogue(store, [Path(model) for model in models], ()))
    except KeyboardInterrupt:
        return 0
    return 0


def _wait_for_others(path: Path) -> None:
    """Wait until the worker of an earlier server has ended."""
    until = time.monotonic() + ENDING
    while True:
        try:
            with output_files(path):
                return
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(EVERY)


def _serve(store: Store, watcher: Watcher, device: str, catalogue: Catalogue) -> None:
    looked = 0.0
    while not watcher.ending:
        try:
            job = store.jobs.take()
        except UserError:
            # The disk is full: pages say so.
            time.sleep(MODELS_EVERY)
            continue
        if job is not None:
            watcher.watch(job)
            try:
                run_job(store, job, device)
            finally:
                watcher.watch(None)
        elif time.monotonic() - looked > MODELS_EVERY:
            looked = time.monotonic()
            # One at a time: a job that comes in between does not wait for all.
            next(filter(None, (_describe(store, model, device) for model in catalogue.paths())), None)
        else:
            time.sleep(EVERY)


def _describe(store: Store, model: Path, device: str) -> bool:
    """Note what a model can be asked, unless that is known; whether there was something to note."""
    try:
        stamp = stamp_of(model)
    except (UserError, OSError):
        # The page says so.
        return False
    if store.models.get(model, stamp) is not None:
        return False
    try:
        facts, refusal = facts_of(load(model, device), open_generator(model)).to_dict(), ""
    except UserError as error:
        facts, refusal = {}, str(error)
    with suppress(UserError):
        # On a disk that is full it is noted later.
        store.models.save(model, stamp, facts, refusal)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
