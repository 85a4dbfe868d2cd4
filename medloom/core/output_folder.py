"""Output folders: one writer at a time, in a folder that holds nothing else, without leftovers of a killed one."""

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from medloom.core.errors import UserError
from medloom.core.files import (
    LEFTOVER,
    explained_disk_errors,
    held_folders,
    make_folder,
    remove_leftovers,
    remove_leftovers_of,
    require_held,
)
from medloom.core.progress import say

# Names the process that writes the folder, for as long as it does.
LOCK = ".writer.lock"


@contextmanager
def output_folder(folder: Path, marker: str) -> Iterator[Path]:
    """An output folder within the block: made where it is missing, without leftovers, and for this process alone.

    A second block of the same folder within the first changes nothing. A new folder is removed if nothing was written.
    A process that is killed leaves its lock behind, which the next one takes over and says so. Other computers see the
    lock where the file system has locks (`flock`).

    Args:
        folder: may be missing, empty, or hold previous output of the same kind.
        marker: a file that such output always contains (`manifest.csv`, `run.json`).

    Raises:
        UserError: the folder has content but no `marker`, is a file, another process is writing it, or it was removed
            or moved within the block.

    Examples:
        >>> from pathlib import Path
        >>> from medloom.core.output_folder import output_folder
        >>> with output_folder(Path("pictures"), "pictures.json") as out:
        ...     _ = (out / "pictures.json").write_text("{}")
        >>> [path.name for path in Path("pictures").iterdir()]
        ['pictures.json']
    """
    folder = Path(folder)
    if folder.absolute() in held_folders:
        yield folder
        return
    with explained_disk_errors(folder):
        _require_own(folder, marker)
        is_new = not folder.exists()
        make_folder(folder)
        descriptor = _lock(folder / LOCK, folder)
    try:
        with shared_folder(folder):
            with explained_disk_errors(folder):
                remove_leftovers(folder)
            yield folder
    except BaseException:
        # Of processes that were ended in the middle of a file.
        with suppress(OSError):
            if _is_there(folder / LOCK, descriptor):
                remove_leftovers(folder)
        raise
    finally:
        _unlock(folder / LOCK, descriptor)
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """An output folder within the block, which is there, for a process of a command of which another one holds it.

    Raises:
        UserError: it was removed or moved within the block.
    """
    if folder.absolute() in held_folders:
        yield folder
        return
    held_folders[folder.absolute()] = folder.stat().st_ino
    try:
        yield folder
    except Exception as error:
        # Whatever came of it, this is why.
        require_held(folder, error)
        raise
    finally:
        del held_folders[folder.absolute()]


class Processes(Protocol):
    """The processes of a command, as Accelerate has them."""

    @property
    def is_main_process(self) -> bool:
        """Whether this one is the first."""

    def wait_for_everyone(self) -> None:
        """Wait until all have come here."""


@contextmanager
def held_by_main(folder: Path, marker: str, processes: Processes) -> Iterator[Path]:
    """`output_folder` for a command of several processes, of which the main one holds it."""
    if processes.is_main_process:
        with output_folder(folder, marker):
            processes.wait_for_everyone()
            yield folder
    else:
        processes.wait_for_everyone()
        with shared_folder(folder):
            yield folder


@contextmanager
def output_files(*paths: Path, option: str = "--out") -> Iterator[None]:
    """Files next to others of the user, for this process alone within the block, without leftovers of a killed one.

    Args:
        paths: the files; the first is what the user named.
        option: by which the user named it.

    Raises:
        UserError: another process is writing it.
    """
    first = paths[0]
    with explained_disk_errors(first):
        make_folder(first.parent)
        descriptor = _lock(path := first.with_name(f".{first.name}{LOCK}"), first, option)
    try:
        for each in paths:
            remove_leftovers_of(each)
        yield
    finally:
        _unlock(path, descriptor)


def empty_folder(folder: Path) -> None:
    """Remove what is in an output folder, other than the lock."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def _require_own(folder: Path, marker: str) -> None:
    """Refuse a file, and a folder whose content is not of the kind that `marker` names.

    A writer that was killed before it wrote its marker left its lock.
    """
    if folder.is_file():
        raise UserError(f"--out {folder} is a file; name a folder.")
    if not folder.is_dir() or (folder / marker).exists() or (folder / LOCK).exists():
        return
    if any(not re.fullmatch(LEFTOVER, entry.name) for entry in folder.iterdir()):
        raise UserError(f"--out {folder} already has other content (no {marker}); name a new or empty folder.")


def _lock(path: Path, out: Path, option: str = "--out") -> int:
    """Lock an output for this process; the open file of the lock.

    Raises:
        UserError: another process writes it, or no file can be made there.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError as error:
            raise UserError(f"cannot write {out}: {error.strerror}; name a writable folder.") from error
        holder = os.read(descriptor, 4096).decode("utf-8", "replace")
        if not _flock(descriptor):
            os.close(descriptor)
            raise UserError(
                f"{option} {out}: {_whom(holder)} is writing it; wait until that has ended, or give another name."
            )
        # The one who held it may have removed the file since it was opened.
        if _is_there(path, descriptor):
            break
        os.close(descriptor)
    if holder:
        say(f"{out}: {_whom(holder)} ended without finishing; its lock is taken over.")
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    own = json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now})
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.truncate(descriptor, 0)
    os.write(descriptor, own.encode("utf-8"))
    return descriptor


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether a path is that of an open file."""
    return path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino


def _unlock(path: Path, descriptor: int) -> None:
    if sys.platform == "win32":
        # Windows removes no open file.
        os.close(descriptor)
        path.unlink(missing_ok=True)
    else:
        # Removed before it is let go: another process that has just opened it looks whether it is still there. In a
        # folder that took the place of this one it is another's.
        if _is_there(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Whether an open file is locked now; the system lets go of it when the process ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Beyond the text, which others read.
            os.lseek(descriptor, 2**20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _whom(holder: str) -> str:
    """The process of a lock, in words."""
    try:
        known = json.loads(holder)
        return f"process {known['process']} on {known['host']} (since {known['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
