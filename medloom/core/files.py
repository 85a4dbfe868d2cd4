"""Atomic writing of files and folders, so that readers never see half of one; hashes; JSON, and YAML as texts."""

import errno
import functools
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.frames import file_of, split_frame

if TYPE_CHECKING:
    import yaml

YAML_NULL = "tag:yaml.org,2002:null"
TEMPORARY_SUFFIX = ".partial"
SET_ASIDE = ".old"
# The one form of temporary names: `.NAME-0a1b2c3d.partial`, with the ending of a file behind it.
LEFTOVER = r"\.(?P<name>.+)-[0-9a-f]{8}(?P<aside>\.old)?\.partial(\..*)?"
# Bytes that `sampled_content` reads in one place.
SAMPLED = 4096
# Output folders that this process writes -> their number on the disk, by which one that was replaced is known.
held_folders: dict[Path, int] = {}


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a later rename cannot precede its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission or an output folder that went away under `path` into a UserError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError):
            require_held(path, error)
        number = error.errno if isinstance(error, OSError) else None
        # safetensors states the system's error number only in its message.
        if found := re.search(r"os error (\d+)", str(error)):
            number = int(found[1])
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"no space left for writing {path} ({os.strerror(number)}); no incomplete output remains:"
                " free some space and run the same command again."
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"cannot write {path}: {os.strerror(number)}; name a writable folder.") from error
        if number == errno.ENAMETOOLONG:
            raise UserError(f"cannot write {path}: {os.strerror(number)}; give a shorter name.") from error
        raise


@contextmanager
def atomic_file(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` after the block, or remove it after an error.

    Args:
        path: where the file goes.
        flushed: force it to the disk, so that it is whole even if the power fails. Of thousands of small images this
            takes most of the time; without it a killed program still leaves whole files only, and a power failure may
            leave an empty one, which `is_written` tells.
    """
    path = Path(path)
    with explained_disk_errors(path):
        make_folder(path.parent)
        # The temporary name has the same ending: some writers choose the format by it.
        name = path.name.split(".", 1)
        ending = "".join(f".{each}" for each in name[1:])
        temporary = path.with_name(f".{name[0]}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}{ending}")
        _require_place(temporary, path)
        try:
            yield temporary
            if flushed:
                sync(temporary)
            temporary.replace(path)
            if flushed:
                sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def is_written(path: Path) -> bool:
    """Whether a file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; rename it to `path` after the block, or remove it after an error.

    An existing folder at `path` is set aside, replaced, and then removed.
    """
    path = Path(path)
    with temporary_folder(path) as temporary:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            sync(entry)
        sync(temporary)
        if path.exists():
            old = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}{SET_ASIDE}{TEMPORARY_SUFFIX}")
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
        sync(path.parent)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder next to `path` within the block, of a name that `remove_leftovers` knows."""
    with explained_disk_errors(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
        try:
            temporary.mkdir()
        except FileNotFoundError as error:
            raise UserError(f"cannot make the folder {path}: {error.strerror}; name a writable folder.") from error
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove incomplete output of a killed run anywhere in `folder`.

    A folder that was set aside and not replaced gets its name back.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (found := re.fullmatch(LEFTOVER, name)) is None:
                continue
            entry, original = Path(parent) / name, Path(parent) / found["name"]
            if found["aside"] and not original.exists():
                entry.replace(original)
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        folders[:] = [name for name in folders if not re.fullmatch(LEFTOVER, name)]


def remove_leftovers_of(path: Path) -> None:
    """Remove what killed writers of one file left next to it, in a folder with other content."""
    own, _, ending = path.name.partition(".")
    pattern = rf"\.{re.escape(own)}-[0-9a-f]{{8}}\.partial" + (re.escape(f".{ending}") if ending else "")
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        if re.fullmatch(pattern, entry.name):
            entry.unlink(missing_ok=True)


def discard_folder(path: Path) -> None:
    """Remove a folder; a kill leaves it whole, or under a name that `remove_leftovers` knows."""
    doomed = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    path.replace(doomed)
    shutil.rmtree(doomed)


def require_held(path: Path, cause: Exception | None = None) -> None:
    """Refuse to write into an output folder that was removed, moved or replaced since this process began to write it.

    Args:
        path: what is to be written.
        cause: the error that came of it, if there was one.

    Raises:
        UserError: names the folder.
    """
    where = path.absolute()
    for folder, number in held_folders.items():
        if where.is_relative_to(folder) and not (folder.is_dir() and folder.stat().st_ino == number):
            raise UserError(
                f"{folder} was removed or moved while this command was writing it; nothing more is written. Put it back"
                " and run the same command again to resume, or begin anew."
            ) from cause


def make_folder(path: Path) -> None:
    """Make a folder with those above it, but no output folder that went away while it was written.

    Raises:
        UserError: a part of the path is a file, or no folder can be made there.
    """
    require_held(path)
    with explained_disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(
                f"cannot make the folder {path}: {_hindrance(path)} is no folder; name another one."
            ) from error
        except FileNotFoundError as error:
            # Of a file system that makes no folders (/proc), and of one that went away.
            raise UserError(f"cannot make the folder {path}: {error.strerror}; name a writable folder.") from error


def _hindrance(path: Path) -> Path:
    """The part of a path that is there and no folder."""
    return next((part for part in (*reversed(path.parents), path) if os.path.lexists(part) and not part.is_dir()), path)


def _require_place(temporary: Path, path: Path) -> None:
    """Refuse a folder in which no file can be made (/proc), before a writer fails in its own words."""
    try:
        temporary.touch()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name a writable folder.") from error
    if path.is_dir():
        temporary.unlink()
        raise UserError(f"cannot write the file {path}: it is a folder; give another name.")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, with sorted keys, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing.") from error
    except (ValueError, RecursionError) as error:
        # Also what is no UTF-8, and numbers of thousands of digits.
        raise UserError(f"{path} is not valid JSON ({error}): the file was truncated or edited.") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds values by name.

    Raises:
        UserError: the file is missing, is not JSON, or holds something else.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no values by name: it was replaced or edited; put the original file back.")
    return values


@contextmanager
def explained_content(path: Path) -> Iterator[None]:
    """Say of values of another shape than medloom writes that their file is damaged."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} is damaged: it does not hold what medloom writes there; put the original file back, or make its"
            " folder anew."
        ) from error


def time_stamp() -> str:
    """Date and time now as files hold them, in UTC to a second: 2026-03-01T09:30:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def hash_text(text: str) -> str:
    """SHA-256 of UTF-8 text, 16 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def hash_json(value: object) -> str:
    """SHA-256 of a JSON value in canonical form, 16 hexadecimal digits."""
    return hash_text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def hash_content(path: Path) -> str:
    """`hash_file` of a file, `hash_folder` of a folder; a path may name a frame."""
    path, frame = split_frame(path)
    if frame is not None:
        return hash_text(f"{hash_file(path)}#{frame}")
    return hash_folder(path) if Path(path).is_dir() else hash_file(path)


def known_content(path: Path) -> str:
    """`hash_content`, computed once as long as the file is not written again.

    Raises:
        UserError: the file does not exist.
    """
    if not file_of(path).exists():
        raise UserError(f"{path} does not exist.")
    return _known_content(path.absolute(), content_stamp(path))


@functools.lru_cache(maxsize=100_000)
def _known_content(path: Path, stamp: tuple[int, int]) -> str:
    return hash_content(path)


def sampled_content(path: Path) -> str:
    """A hash of a file's size and of its first, middle and last bytes, of a folder over its files, wherever it lies.

    It tells files of a large data set apart without reading all of it. A path may name a frame.
    """
    path, frame = split_frame(path)
    files = sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(str(frame).encode())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name if path.is_dir() else ''} {size}".encode())
        with file.open("rb") as stream:
            for start in sorted({0, max(0, (size - SAMPLED) // 2), max(0, size - SAMPLED)}):
                stream.seek(start)
                digest.update(stream.read(SAMPLED))
    return digest.hexdigest()[:16]


def content_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes, and time of the last change in ns, of a file or of all files in a folder; it may name a frame."""
    path = file_of(path)
    stats = [entry.stat() for entry in sorted(path.iterdir())] if path.is_dir() else [path.stat()]
    return sum(entry.st_size for entry in stats), max((entry.st_mtime_ns for entry in stats), default=0)


def hash_folder(folder: Path) -> str:
    """SHA-256 over the names and bytes of a folder's files, 16 hexadecimal digits."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return hash_json([[path.relative_to(folder).as_posix(), hash_file(path)] for path in files])


def relative_path(path: Path | None, out: Path) -> str | None:
    """A path as a table in the folder `out` names it, with slashes on every system."""
    return Path(os.path.relpath(path, out.resolve())).as_posix() if path else None


def read_yaml_text(text: str, null: str | None = None) -> object:
    """A YAML document as mappings, lists and texts; nothing, `~` and `null` become `null` unless quoted.

    Raises:
        UserError: not YAML, a repeated key, or an anchor that contains itself.
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return null if node is None else _yaml_value(node, null)
    except yaml.YAMLError as error:
        raise UserError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise UserError("an anchor contains itself, or lists are nested too deeply") from error


def _yaml_value(node: "yaml.Node", null: str | None) -> object:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(entry, null) for entry in node.value]
    if not isinstance(node, yaml.MappingNode):
        return null if node.tag == YAML_NULL else str(node.value)
    values: dict[str, object] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in values:
            raise UserError(f"line {key.start_mark.line + 1}: {name!r} occurs twice; leave one out")
        values[name] = _yaml_value(value, null)
    return values
