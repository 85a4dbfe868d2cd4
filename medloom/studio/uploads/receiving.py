"""Receiving files: into the user's own folder, without identifiers, and out of it again when their time is over."""

import hashlib
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path, PureWindowsPath
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import make_folder
from medloom.data.images import READERS
from medloom.studio.store.store import Store
from medloom.studio.store.uploads import Upload
from medloom.studio.uploads.arrival import IMAGE, MASK, REGION

KINDS = (IMAGE, MASK, REGION)
# Names of files before they are read; what a killed server left of them is removed at the next start.
INCOMING = "incoming-"
# Seconds that reading one file may take.
PATIENCE = 120.0
LONGEST_NAME = 80


def folder_of(store: Store, user: str) -> Path:
    """A user's own folder; its name says nothing of the user's."""
    return store.folder / "uploads" / hashlib.sha256(user.encode("utf-8")).hexdigest()[:16]


def incoming_file(store: Store, user: str, name: str) -> Path:
    """Where a file is put as it comes, with the ending that its name has.

    Raises:
        UserError: an ending of no format of images.
    """
    lowered = name.lower()
    endings = [ending for ending in READERS if lowered.endswith(ending)]
    if not endings and "." in Path(name).name:
        raise UserError(
            f"{name[-LONGEST_NAME:]!r} is not of a format that is read: bring PNG, JPEG, TIFF, DICOM, NIfTI, MetaImage"
            " or NRRD."
        )
    folder = folder_of(store, user)
    make_folder(folder)
    return folder / f"{INCOMING}{uuid.uuid4().hex}{max(endings, key=len) if endings else '.dcm'}"


def receive(store: Store, user: str, incoming: Path, name: str, kind: str) -> Upload:
    """A file that has come: read, written anew, and removed.

    Args:
        store: of the studio.
        user: who brought it.
        incoming: the file.
        name: what the user calls it.
        kind: image or mask.

    Raises:
        UserError: it cannot be used.
    """
    identity = uuid.uuid4().hex
    module = "medloom.studio.uploads.arrival"
    words = [sys.executable, "-m", module, str(incoming), str(incoming.parent), identity, kind]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603
        found = _answer(done.stdout)
    except subprocess.TimeoutExpired:
        found = {"refusal": f"the file could not be read within {PATIENCE:g} seconds."}
    finally:
        incoming.unlink(missing_ok=True)
    if "refusal" in found:
        raise UserError(found["refusal"])
    written = incoming.parent / found["file"]
    # Browsers of some systems send folders too, with one separator or the other.
    shown = "".join(letter for letter in PureWindowsPath(name).name if letter.isprintable())[-LONGEST_NAME:]
    file = written.relative_to(store.folder).as_posix()
    upload = Upload(identity, user, shown or "image", kind, file, found, time.time())
    try:
        store.uploads.add(upload)
    except UserError:
        # What is in no list is in no one's hands.
        written.unlink(missing_ok=True)
        raise
    return upload


def _answer(printed: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(printed)
        return answer
    except ValueError:
        # A library took the process with it, or the memory was used up.
        return {"refusal": "the file cannot be read: it is damaged, or far larger than it says."}


def remove_old(store: Store, before: float, user: str | None = None) -> int:
    """Remove files that were brought before a time and are not kept; returns how many.

    Args:
        store: of the studio.
        before: the time.
        user: whose; None for everybody's.
    """
    files = store.uploads.forget(before, user)
    for file in files:
        (store.folder / file).unlink(missing_ok=True)
    return len(files)


def remove_one(store: Store, user: str, identity: str) -> None:
    """Remove a user's file.

    Raises:
        UserError: the user has none of that name.
    """
    (store.folder / store.uploads.drop(user, identity)).unlink(missing_ok=True)


def remove_incoming(store: Store) -> None:
    """Remove what a killed server left in the middle of receiving it."""
    for path in (store.folder / "uploads").glob(f"*/{INCOMING}*"):
        path.unlink(missing_ok=True)
