"""Arrays computed once and kept on disk, memory-mapped: model-space images, latents, text embeddings.

What is computed is given as a callable. Rows are computed in fixed batches in the order of the manifest, so that a
cache does not depend on the run that filled it, and an interrupted one is continued.
"""

import json
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

INDEX = "index.json"
BATCH = 16
# Progress is recorded this often; a killed run does again at most this much.
BATCHES_A_RECORD = 8

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """One array of a cache: the shape of a row and its dtype."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def cached_rows(
    folder: Path,
    what: str,
    key: Mapping[str, Any],
    rows: int,
    columns: Mapping[str, Column],
    compute: Callable[[Sequence[int]], Arrays],
    shown: bool = True,
) -> Arrays:
    """Arrays with one entry a row, from the cache under `folder`, computed first where they are not there.

    Args:
        folder: the cache folder; holds a folder for each key.
        what: what is cached, for the progress bar and the folder's name.
        key: JSON values that say what the rows are computed from (data, spec, encoder).
        rows: number of rows.
        columns: name -> shape and dtype of a row.
        compute: maps row numbers to arrays `(len, *shape)` by name.
        shown: whether to show progress.

    Returns:
        Read-only memory maps `(rows, *shape)` by name.

    Raises:
        UserError: too little disk; nothing half-written is taken for whole.
    """
    if rows == 0:
        return {name: np.empty((0, *column.shape), column.dtype) for name, column in columns.items()}
    identity = {**key, "rows": rows, "columns": {name: [list(c.shape), c.dtype] for name, c in columns.items()}}
    target = folder / f"{what}-{hash_json(identity)}"
    index = target / INDEX
    done = read_json(index)["done"] if index.is_file() else 0
    if done < rows:
        with explained_disk_errors(target):
            _fill(target, what, identity, rows, done, columns, compute, shown)
    return {name: _open(target, name, column, rows, "r") for name, column in columns.items()}


def _fill(
    target: Path,
    what: str,
    identity: Mapping[str, Any],
    rows: int,
    done: int,
    columns: Mapping[str, Column],
    compute: Callable[[Sequence[int]], Arrays],
    shown: bool,
) -> None:
    if not done:
        _allocate(target, rows, columns)
    remove_leftovers(target)
    maps = {name: _open(target, name, column, rows, "r+") for name, column in columns.items()}
    with progress(f"caching {what}", rows, "rows", done, shown) as advance:
        for number, start in enumerate(range(done, rows, BATCH), 1):
            wanted = range(start, min(start + BATCH, rows))
            for name, values in compute(wanted).items():
                maps[name][wanted.start : wanted.stop] = values
            advance(len(wanted))
            if number % BATCHES_A_RECORD == 0 or wanted.stop == rows:
                for array in maps.values():
                    if isinstance(array, np.memmap):
                        array.flush()
                write_json(target / INDEX, {"key": identity, "done": wanted.stop})


def _allocate(target: Path, rows: int, columns: Mapping[str, Column]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    needed = rows * sum(column.bytes for column in columns.values())
    require_space(target, needed, "the cache")
    for name, column in columns.items():
        with (target / f"{name}.bin").open("wb") as stream:
            # Space is claimed now: a memory map that meets a full disk later would be killed without a word.
            claim_space(stream.fileno(), rows * column.bytes)


def claim_space(descriptor: int, length: int) -> None:
    """Give an open file its length, with the disk space for it."""
    import os

    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, length)
    else:
        os.ftruncate(descriptor, length)


def _open(target: Path, name: str, column: Column, rows: int, mode: str) -> NDArray[Any]:
    path = target / f"{name}.bin"
    if path.stat().st_size != rows * column.bytes:
        raise UserError(f"{path} has not the size that {INDEX} says: the cache was cut short; remove {target}.")
    return np.memmap(path, dtype=column.dtype, mode=mode, shape=(rows, *column.shape))  # type: ignore[call-overload]


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work whose disk need is known and not there.

    Args:
        folder: an existing folder on the disk.
        needed: bytes.
        what: what needs them.

    Raises:
        UserError: says how much is needed and free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {needed / 1e9:.2f} GB under {folder}, and {free / 1e9:.2f} GB are free;"
            " free some space, or name another folder with --cache."
        )


@dataclass(frozen=True)
class RaggedTexts:
    """Embeddings of distinct texts, padding trimmed, end to end.

    Attributes:
        index: text -> its number.
        tokens: `(all tokens, D)` float16 memory map, or token ids `(all tokens, 1)` int64.
        offsets: `(texts + 1,)`, where each text starts.
        pooled: `(texts, D)` float16, or an empty array for ids.
    """

    index: Mapping[str, int]
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    pooled: NDArray[Any]

    def rows(self, numbers: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
        """Tokens `(N, L, D)` padded with zeros, their mask bool `(N, L)`, and pooled `(N, D)` of some texts."""
        lengths = [int(self.offsets[n + 1] - self.offsets[n]) for n in numbers]
        longest = max(lengths)
        tokens = np.zeros((len(numbers), longest, self.tokens.shape[1]), self.tokens.dtype)
        mask = np.arange(longest)[None] < np.array(lengths)[:, None]
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            tokens[row, :length] = self.tokens[self.offsets[number] : self.offsets[number + 1]]
        return tokens, mask, self.pooled[list(numbers)]


def cached_texts(
    folder: Path,
    key: Mapping[str, Any],
    texts: Sequence[str],
    embed: Callable[[Sequence[str]], list[tuple[NDArray[Any], NDArray[Any]]]],
    shown: bool = True,
) -> RaggedTexts:
    """Embeddings of a corpus by a frozen encoder; equal texts are embedded and kept once.

    Args:
        folder: the cache folder.
        key: JSON values that identify the encoder.
        texts: all texts that will be asked for.
        embed: maps texts to (tokens `(L, D)`, pooled `(D,)`) each.
        shown: whether to show progress.
    """
    distinct = sorted(set(texts))
    if not distinct:
        return ragged_ids([], list)
    target = folder / f"texts-{hash_json([dict(key), distinct])}"
    if not (target / INDEX).is_file():
        with explained_disk_errors(target):
            _embed_all(target, distinct, embed, shown)
    sizes = read_json(target / INDEX)
    pooled = np.load(target / "pooled.npy", allow_pickle=False, mmap_mode="r")
    tokens = np.memmap(target / "tokens.bin", dtype="float16", mode="r", shape=(sizes["tokens"], sizes["width"]))
    offsets = np.load(target / "offsets.npy", allow_pickle=False)
    return RaggedTexts({text: number for number, text in enumerate(distinct)}, tokens, offsets, pooled)


def _embed_all(
    target: Path,
    distinct: Sequence[str],
    embed: Callable[[Sequence[str]], list[tuple[NDArray[Any], NDArray[Any]]]],
    shown: bool,
) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    offsets, pooled, width = [0], [], 0
    with (
        (target / "tokens.bin").open("wb") as stream,
        progress("caching texts", len(distinct), "texts", 0, shown) as go,
    ):
        for start in range(0, len(distinct), BATCH):
            for tokens, whole in embed(distinct[start : start + BATCH]):
                stream.write(np.ascontiguousarray(tokens, np.float16).tobytes())
                offsets.append(offsets[-1] + len(tokens))
                pooled.append(whole.astype(np.float16))
                width = tokens.shape[1]
            go(min(BATCH, len(distinct) - start))
    np.save(target / "pooled.npy", np.stack(pooled), allow_pickle=False)
    np.save(target / "offsets.npy", np.array(offsets, np.int64), allow_pickle=False)
    # Written last: an index means that all the rest is there.
    (target / INDEX).write_text(json.dumps({"tokens": offsets[-1], "width": width}), encoding="utf-8")


def ragged_ids(texts: Sequence[str], ids: Callable[[str], Sequence[Any]]) -> RaggedTexts:
    """Token ids of a corpus in the form of RaggedTexts, for a text encoder that is trained."""
    distinct = sorted(set(texts))
    encoded = [np.asarray(ids(text), np.int64) for text in distinct]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    tokens = np.concatenate(encoded)[:, None] if encoded else np.zeros((0, 1), np.int64)
    index = {text: number for number, text in enumerate(distinct)}
    return RaggedTexts(index, tokens, offsets, np.zeros((len(distinct), 0), np.float16))
