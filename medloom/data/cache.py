"""Arrays computed once and stored on disk, memory-mapped: images, label maps, latents and text embeddings.

A callable computes the values. Rows are computed in the order of the manifest, in fixed batches, so that the content of
a cache does not depend on the run that filled it, and an interrupted cache is continued.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import (
    explained_content,
    explained_disk_errors,
    hash_json,
    make_folder,
    read_mapping,
    remove_leftovers,
    write_json,
)
from medloom.core.progress import progress

INDEX = "index.json"
BATCH = 16
# Progress is recorded after this many batches, values or rows; a killed run repeats at most this much.
BATCHES_PER_RECORD = 8
VALUES_PER_RECORD = 2**28
ROWS_PER_RECORD = 256

Arrays = dict[str, NDArray[Any]]
Shape = tuple[int, ...]
Scalar = TypeVar("Scalar", bound=np.generic, covariant=True)
# Texts -> (tokens `(L, D)`, pooled `(D,)`) of each.
Embed = Callable[[Sequence[str]], Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]]


@dataclass(frozen=True)
class CacheColumn:
    """One array of a cache: the shape of a row and its dtype."""

    shape: Shape
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes per row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def cached_rows(
    folder: Path,
    what: str,
    key: Mapping[str, object],
    rows: int,
    columns: Mapping[str, CacheColumn],
    compute: Callable[[Sequence[int]], Mapping[str, NDArray[np.generic]]],
    verbose: bool = True,
) -> Arrays:
    """Arrays with one entry per row, from the cache in `folder`; missing rows are computed first.

    Args:
        folder: the cache folder; it holds one folder per key.
        what: what is cached; it names the progress bar and the folder.
        key: JSON values that identify what the rows are computed from (data, spec, encoder).
        rows: number of rows.
        columns: name -> shape and dtype of a row.
        compute: maps row numbers to arrays `(len, *shape)` by name.
        verbose: show progress.

    Returns:
        Read-only memory maps `(rows, *shape)` by name.

    Raises:
        UserError: too little disk space, or a file of the wrong size.
    """
    if rows == 0:
        return {name: np.empty((0, *column.shape), column.dtype) for name, column in columns.items()}

    def write(maps: Mapping[str, NDArray[np.generic]], done: int) -> Iterator[tuple[int, bool]]:
        for number, start in enumerate(range(done, rows, BATCH), 1):
            wanted = range(start, min(start + BATCH, rows))
            for name, values in compute(wanted).items():
                maps[name][wanted.start : wanted.stop] = values
            yield wanted.stop, number % BATCHES_PER_RECORD == 0

    identity = {**key, "rows": rows, "columns": {name: [list(c.shape), c.dtype] for name, c in columns.items()}}
    files = {name: CacheColumn((rows, *column.shape), column.dtype) for name, column in columns.items()}
    return _cached(folder, what, identity, rows, files, write, verbose)


@dataclass(frozen=True, eq=False)
class PackedArrays(Generic[Scalar]):
    """Arrays of different shapes, packed end to end in one.

    Attributes:
        values: all values, end to end.
        shapes: shape of each array.
        starts: int64 `(N + 1,)`, the first index of each array in `values`, and the end.
    """

    values: NDArray[Scalar]
    shapes: Sequence[Shape]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Scalar], shapes: Sequence[Shape]) -> "PackedArrays[Scalar]":
        """Arrays of these shapes from values that lie end to end."""
        sizes = (int(np.prod(shape, dtype=np.int64)) for shape in shapes)
        return cls(values, shapes, np.cumsum([0, *sizes], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> NDArray[Scalar]:
        """One array, a view."""
        return self.values[self.starts[row] : self.starts[row + 1]].reshape(self.shapes[row])


def cached_arrays(
    folder: Path,
    what: str,
    key: Mapping[str, object],
    shapes: Sequence[Shape],
    dtype: type[Scalar],
    compute: Callable[[int], NDArray[np.generic] | None],
    verbose: bool = True,
) -> tuple[PackedArrays[Scalar], NDArray[np.uint8]]:
    """Arrays of known, different shapes, from the cache in `folder`; missing arrays are computed first.

    Args:
        folder: the cache folder; it holds one folder per key.
        what: what is cached; it names the progress bar and the folder.
        key: JSON values that identify what the arrays are computed from.
        shapes: shape of each row's array.
        dtype: of the values.
        compute: maps a row number to its array, or to None where the array is not available; its values are then 0.
        verbose: show progress.

    Returns:
        The arrays, read-only, and marks uint8 `(N,)`: 1 for rows whose array is not available.

    Raises:
        UserError: too little disk space, or a file of the wrong size.
    """
    if not shapes:
        return PackedArrays.of(np.empty(0, dtype), []), np.empty(0, np.uint8)

    def write(maps: Mapping[str, NDArray[np.generic]], done: int) -> Iterator[tuple[int, bool]]:
        arrays, unrecorded = PackedArrays.of(maps["values"], shapes), 0
        for row in range(done, len(shapes)):
            array = compute(row)
            if array is not None and array.shape != shapes[row]:
                raise ValueError(f"an array of {array.shape} where the headers state {shapes[row]}")
            maps["bad"][row] = array is None
            arrays[row][...] = 0 if array is None else array
            unrecorded += arrays[row].size
            record = unrecorded >= VALUES_PER_RECORD or (row + 1) % ROWS_PER_RECORD == 0
            unrecorded = 0 if record else unrecorded
            yield row + 1, record

    name = np.dtype(dtype).name
    identity = {**key, "shapes": [list(shape) for shape in shapes], "dtype": name}
    total = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
    files = {"values": CacheColumn((total,), name), "bad": CacheColumn((len(shapes),), "uint8")}
    stored = _cached(folder, what, identity, len(shapes), files, write, verbose)
    return PackedArrays.of(stored["values"], shapes), stored["bad"]


def _recorded(target: Path, name: str) -> int:
    """A number that the index of a cache records."""
    values = read_mapping(target / INDEX)
    with explained_content(target / INDEX):
        return int(values[name])


def _cached(
    folder: Path,
    what: str,
    identity: Mapping[str, object],
    rows: int,
    files: Mapping[str, CacheColumn],
    write: Callable[[Mapping[str, NDArray[np.generic]], int], Iterator[tuple[int, bool]]],
    verbose: bool,
) -> Arrays:
    """Whole arrays by name, one file each. `write` fills them from a row on, and yields (rows done, record them)."""
    target = folder / f"{what}-{hash_json(identity)}"
    done = _recorded(target, "done") if (target / INDEX).is_file() else 0
    if done < rows:
        with explained_disk_errors(target):
            if not done:
                shutil.rmtree(target, ignore_errors=True)
                make_folder(target)
                require_space(target, sum(file.bytes for file in files.values()), "the cache")
                for name, file in files.items():
                    with (target / f"{name}.bin").open("wb") as stream:
                        # Reserve the space now: writing to a memory map on a full disk kills the process without a
                        # message.
                        if hasattr(os, "posix_fallocate"):
                            os.posix_fallocate(stream.fileno(), 0, file.bytes)
                        else:
                            os.ftruncate(stream.fileno(), file.bytes)
            remove_leftovers(target)
            maps = _mapped(target, files, "r+")
            with progress(f"caching {what}", rows, "rows", done, verbose) as advance:
                for reached, record in write(maps, done):
                    advance(reached - done)
                    done = reached
                    if record or done == rows:
                        for array in maps.values():
                            array.flush()
                        write_json(target / INDEX, {"key": identity, "done": done})
    return {**_mapped(target, files, "r")}


def _mapped(
    target: Path, files: Mapping[str, CacheColumn], mode: Literal["r", "r+"]
) -> dict[str, "np.memmap[Any, np.dtype[Any]]"]:
    for name, file in files.items():
        if (path := target / f"{name}.bin").stat().st_size != file.bytes:
            raise UserError(
                f"{path} does not have the size that {INDEX} states: the cache is truncated; remove {target}."
            )
    return {
        name: np.memmap(target / f"{name}.bin", dtype=np.dtype(file.dtype), mode=mode, shape=file.shape)
        for name, file in files.items()
    }


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work that needs more disk space than is free.

    Args:
        folder: an existing folder on the disk.
        needed: bytes.
        what: what needs them.

    Raises:
        UserError: states how much is needed and how much is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, and {free / 1e9:.2f} GB are free;"
            " free some space, or name another folder with --cache."
        )


@dataclass(frozen=True)
class PackedTexts:
    """Token embeddings or token ids of distinct texts, without padding, packed end to end.

    Attributes:
        index: text -> its number.
        tokens: `(all tokens, D)` float16 memory map, or token ids `(all tokens, 1)` int64.
        offsets: int64 `(texts + 1,)`, the first token of each text, and the end.
        pooled: `(texts, D)` float16; `(texts, 0)` for ids.
    """

    index: Mapping[str, int]
    tokens: NDArray[np.float16 | np.int64]
    offsets: NDArray[np.int64]
    pooled: NDArray[np.float16]

    def rows(
        self, numbers: Sequence[int]
    ) -> tuple[NDArray[np.float16 | np.int64], NDArray[np.bool_], NDArray[np.float16]]:
        """Tokens `(N, L, D)` padded with zeros, their mask bool `(N, L)`, and pooled `(N, D)` of some texts."""
        lengths = [int(self.offsets[n + 1] - self.offsets[n]) for n in numbers]
        longest = max(lengths)
        tokens = np.zeros((len(numbers), longest, self.tokens.shape[1]), self.tokens.dtype)
        mask = np.arange(longest)[None] < np.array(lengths)[:, None]
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            tokens[row, :length] = self.tokens[self.offsets[number] : self.offsets[number + 1]]
        return tokens, mask, self.pooled[list(numbers)]


def cached_texts(
    folder: Path, key: Mapping[str, object], texts: Sequence[str], embed: Embed, verbose: bool = True
) -> PackedTexts:
    """Embeddings of a corpus by a frozen encoder; each distinct text is embedded and stored once.

    Args:
        folder: the cache folder.
        key: JSON values that identify the encoder.
        texts: all texts that will be needed.
        embed: maps texts to (tokens `(L, D)`, pooled `(D,)`) of each.
        verbose: show progress.
    """
    distinct = sorted(set(texts))
    if not distinct:
        return packed_ids([], lambda text: [])
    target = folder / f"texts-{hash_json([dict(key), distinct])}"
    if not (target / INDEX).is_file():
        with explained_disk_errors(target):
            _embed_all(target, distinct, embed, verbose)
    pooled = np.load(target / "pooled.npy", allow_pickle=False, mmap_mode="r")
    tokens = np.memmap(
        target / "tokens.bin",
        dtype="float16",
        mode="r",
        shape=(_recorded(target, "tokens"), _recorded(target, "width")),
    )
    offsets = np.load(target / "offsets.npy", allow_pickle=False)
    return PackedTexts({text: number for number, text in enumerate(distinct)}, tokens, offsets, pooled)


def _embed_all(target: Path, distinct: Sequence[str], embed: Embed, verbose: bool) -> None:
    shutil.rmtree(target, ignore_errors=True)
    make_folder(target)
    offsets, pooled, width = [0], [], 0
    with (
        (target / "tokens.bin").open("wb") as stream,
        progress("caching texts", len(distinct), "texts", 0, verbose) as advance,
    ):
        for start in range(0, len(distinct), BATCH):
            for tokens, whole in embed(distinct[start : start + BATCH]):
                stream.write(np.ascontiguousarray(tokens, np.float16).tobytes())
                offsets.append(offsets[-1] + len(tokens))
                pooled.append(whole.astype(np.float16))
                width = tokens.shape[1]
            advance(min(BATCH, len(distinct) - start))
    np.save(target / "pooled.npy", np.stack(pooled), allow_pickle=False)
    np.save(target / "offsets.npy", np.array(offsets, np.int64), allow_pickle=False)
    # Written last: where there is an index, the other files are complete.
    write_json(target / INDEX, {"tokens": offsets[-1], "width": width})


def packed_ids(texts: Sequence[str], ids: Callable[[str], Sequence[int]]) -> PackedTexts:
    """Token ids of a corpus, for a text encoder that is trained."""
    distinct = sorted(set(texts))
    encoded = [np.asarray(ids(text), np.int64) for text in distinct]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    tokens = np.concatenate(encoded)[:, None] if encoded else np.zeros((0, 1), np.int64)
    index = {text: number for number, text in enumerate(distinct)}
    return PackedTexts(index, tokens, offsets, np.zeros((len(distinct), 0), np.float16))
