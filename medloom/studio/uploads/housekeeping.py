"""Removing files that were brought, and sessions, when their time is over, for as long as the studio is served."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from medloom.core.errors import UserError
from medloom.studio.store.sessions import DAYS
from medloom.studio.store.store import Store
from medloom.studio.uploads.receiving import remove_incoming, remove_old

# Seconds between two looks.
EVERY = 300.0


@contextmanager
def housekeeping(store: Store, hours: float) -> Iterator[None]:
    """Within the block files go that are older than some hours and not kept, and first what a killed server left."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            # On a disk that is full nothing can be removed from the store; the next look may find space.
            with suppress(UserError):
                remove_old(store, time.time() - 3600 * hours)
                store.sessions.forget(time.time() - DAYS * 86400)
            over.wait(EVERY)

    remove_incoming(store)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
