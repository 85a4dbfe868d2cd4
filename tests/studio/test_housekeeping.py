"""What goes when its time is over: files that were brought, sessions, and what a killed server left."""

import sqlite3
import time
from pathlib import Path

from medloom.studio.store.database import FILE
from medloom.studio.store.sessions import DAYS
from medloom.studio.store.store import Store
from medloom.studio.store.uploads import Upload
from medloom.studio.uploads.housekeeping import housekeeping
from medloom.studio.uploads.receiving import INCOMING, folder_of


def test_files_and_sessions_go_when_their_time_is_over(tmp_path: Path) -> None:
    store, now = Store(tmp_path / "studio"), time.time()
    folder = folder_of(store, "anna")
    folder.mkdir(parents=True)
    for name, hours in (("old", 25), ("kept", 25), ("new", 1)):
        (folder / f"{name}.png").write_bytes(b"x")
        file = (folder / f"{name}.png").relative_to(store.folder).as_posix()
        store.uploads.add(Upload(name, "anna", name, "image", file, {}, now - 3600 * hours))
    store.uploads.keep("anna", "kept", True)
    (folder / f"{INCOMING}1.png").write_bytes(b"half")
    store.sessions.add("recent", "anna", "s")
    store.sessions.add("past", "anna", "s")
    with sqlite3.connect(store.folder / FILE) as connection:
        connection.execute("update sessions set used = ? where token = 'past'", (now - (DAYS + 1) * 86400,))
    with housekeeping(store, 24):
        until = time.monotonic() + 10
        while store.sessions.get("past", 0) and time.monotonic() < until:
            time.sleep(0.02)
    assert {path.name for path in folder.iterdir()} == {"kept.png", "new.png"}
    assert {upload.id for upload in store.uploads.of("anna")} == {"kept", "new"}
    assert store.sessions.get("past", 0) is None and store.sessions.get("recent", 0) is not None
