"""A cache of arrays of different sizes, end to end in one file, memory-mapped: whole images and their masks."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import explained_disk_errors, hash_json, read_json, remove_leftovers, write_json
from medloom.core.progress import progress
from medloom.data.cache import INDEX, claim_space, require_space

VALUES, MARKS = "values.bin", "bad.bin"
# Progress is recorded after so many values, or rows: a killed run does again at most this much.
VALUES_A_RECORD = 2**28
ROWS_A_RECORD = 256

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Arrays of different shapes.

    Attributes:
        values: all of them, end to end.
        shapes: of each array.
        starts: int64 `(N + 1,)`, where each begins in `values`.
    """

    values: NDArray[Any]
    shapes: Sequence[Shape]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any], shapes: Sequence[Shape]) -> "Ragged":
        """From values that lie end to end."""
        return cls(values, shapes, _starts(shapes))

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One array, a view."""
        return self.values[self.starts[row] : self.starts[row + 1]].reshape(self.shapes[row])


def cached_ragged(
    folder: Path,
    what: str,
    key: Mapping[str, Any],
    shapes: Sequence[Shape],
    dtype: str,
    compute: Callable[[int], NDArray[Any] | None],
    shown: bool = True,
) -> tuple[Ragged, NDArray[np.uint8]]:
    """Arrays of known shapes, from the cache under `folder`, computed first where they are not there.

    Args:
        folder: the cache folder; holds a folder for each key.
        what: what is cached, for the progress bar and the folder's name.
        key: JSON values that say what the arrays are computed from.
        shapes: of each row's array.
        dtype: of the values.
        compute: maps a row's number to its array, or None where it cannot be had; its values are then 0.
        shown: whether to show progress.

    Returns:
        The arrays, read-only, and marks uint8 `(N,)` of the rows that could not be had.

    Raises:
        UserError: too little disk; nothing half-written is taken for whole.
    """
    if not shapes:
        return Ragged.of(np.empty(0, dtype), []), np.empty(0, np.uint8)
    identity = {**key, "shapes": [list(shape) for shape in shapes], "dtype": dtype}
    target = folder / f"{what}-{hash_json(identity)}"
    done = read_json(target / INDEX)["done"] if (target / INDEX).is_file() else 0
    if done < len(shapes):
        with explained_disk_errors(target):
            _fill(target, what, identity, shapes, dtype, done, compute, shown)
    return Ragged.of(_open(target, VALUES, dtype, shapes, "r"), shapes), _marks(target, len(shapes), "r")


def _fill(
    target: Path,
    what: str,
    identity: Mapping[str, Any],
    shapes: Sequence[Shape],
    dtype: str,
    done: int,
    compute: Callable[[int], NDArray[Any] | None],
    shown: bool,
) -> None:
    if not done:
        _allocate(target, shapes, dtype)
    remove_leftovers(target)
    values, marks = _open(target, VALUES, dtype, shapes, "r+"), _marks(target, len(shapes), "r+")
    arrays, unrecorded = Ragged.of(values, shapes), 0
    with progress(f"caching {what}", len(shapes), "rows", done, shown) as advance:
        for row in range(done, len(shapes)):
            array = compute(row)
            marks[row] = array is None
            arrays[row][...] = 0 if array is None else _of_shape(array, shapes[row])
            unrecorded += arrays[row].size
            advance()
            if unrecorded >= VALUES_A_RECORD or (row + 1) % ROWS_A_RECORD == 0 or row + 1 == len(shapes):
                for written in (values, marks):
                    if isinstance(written, np.memmap):
                        written.flush()
                write_json(target / INDEX, {"key": identity, "done": row + 1})
                unrecorded = 0


def _of_shape(array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    if array.shape != shape:
        raise ValueError(f"an array of {array.shape} where the headers said {shape}")
    return array


def _allocate(target: Path, shapes: Sequence[Shape], dtype: str) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    needed = int(_starts(shapes)[-1]) * np.dtype(dtype).itemsize
    require_space(target, needed + len(shapes), "the cache")
    for name, length in ((VALUES, needed), (MARKS, len(shapes))):
        with (target / name).open("wb") as stream:
            claim_space(stream.fileno(), length)


def _starts(shapes: Sequence[Shape]) -> NDArray[np.int64]:
    return np.cumsum([0, *(int(np.prod(shape, dtype=np.int64)) for shape in shapes)], dtype=np.int64)


def _open(target: Path, name: str, dtype: str, shapes: Sequence[Shape], mode: str) -> NDArray[Any]:
    length = int(_starts(shapes)[-1])
    return _mapped(target, name, dtype, length, mode)


def _marks(target: Path, rows: int, mode: str) -> NDArray[np.uint8]:
    return _mapped(target, MARKS, "uint8", rows, mode)


def _mapped(target: Path, name: str, dtype: str, length: int, mode: str) -> NDArray[Any]:
    path = target / name
    if path.stat().st_size != length * np.dtype(dtype).itemsize:
        raise UserError(f"{path} has not the size that {INDEX} says: the cache was cut short; remove {target}.")
    return np.memmap(path, dtype=dtype, mode=mode, shape=(length,))  # type: ignore[call-overload]
