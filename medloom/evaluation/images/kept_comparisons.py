"""Comparisons of sets that were measured before, so that an interrupted evaluation resumes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_json, write_json
from medloom.metrics.set_comparison import SetComparison
from medloom.metrics.uncertainty import Interval

# Changed when the same features would give other metrics.
VERSION = 2


def kept_comparisons(
    folder: Path, names: Sequence[str], parts: Sequence[NDArray[np.generic]], measure: Callable[[], list[SetComparison]]
) -> list[SetComparison]:
    """What was measured on the same arrays before, or what is measured now and kept.

    Args:
        folder: a file in it is kept for each set of arrays.
        names: of the metrics, and what else they depend on.
        parts: features and units.
        measure: measures.

    Raises:
        UserError: a damaged file.
    """
    digest = hashlib.sha256(repr([VERSION, *names]).encode())
    for part in parts:
        digest.update(f"{part.dtype} {part.shape}".encode())
        digest.update(repr(part.tolist()).encode() if part.dtype.hasobject else np.ascontiguousarray(part).tobytes())
    path = folder / f"{digest.hexdigest()[:32]}.json"
    if path.is_file():
        return _read(path)
    found = measure()
    write_json(path, [asdict(each) for each in found])
    return found


def _read(path: Path) -> list[SetComparison]:
    try:
        return [
            SetComparison(
                Interval(**each["value"]), Interval(**each["reference"]), Interval(**each["beyond"]), each["control"]
            )
            for each in read_json(path)
        ]
    except (TypeError, KeyError, UserError) as error:
        raise UserError(f"{path} is not what an evaluation keeps ({first_line(error)}); remove it.") from error
