"""What a library user hands to a generator: conditions, seeds, a device."""

from collections.abc import Iterable, Sequence
from numbers import Integral

import torch

from medloom.core.errors import UserError
from medloom.core.seeds import check_seed
from medloom.core.types import Condition


def paired(
    conditions: Condition | Sequence[Condition], seed: int | None, seeds: Sequence[int] | None
) -> tuple[list[Condition], list[int]]:
    """A condition and a seed for each image; none of no condition and no seed.

    Raises:
        UserError: both a seed and seeds, several of both in different numbers, none of one, or a seed out of range.
    """
    if seed is not None and seeds is not None:
        raise UserError("give one seed, or seeds, not both.")
    asked = [conditions] if isinstance(conditions, Condition) else conditions
    if not isinstance(asked, Sequence) or not all(isinstance(entry, Condition) for entry in asked):
        raise UserError(f"conditions: give a medloom.Condition, or a list of such, not {conditions!r}.")
    asked = list(asked)
    if seeds is not None and (isinstance(seeds, str) or not isinstance(seeds, Iterable)):
        raise UserError(f"seeds={seeds!r}: give whole numbers, e.g. range(4); of one image, seed={seeds!r}.")
    numbers = list(range(len(asked))) if seeds is None and seed is None else [seed] if seeds is None else list(seeds)
    known = [_whole(number) for number in numbers]
    if len(asked) == 1 and known:
        asked *= len(known)
    elif len(known) == 1:
        raise UserError(f"{len(asked)} conditions and one seed; give a seed for each condition, as seeds=range(...).")
    if not asked and not known:
        return [], []
    if not asked or len(asked) != len(known):
        raise UserError(
            f"{len(asked)} conditions and {len(known)} seeds; give one condition and any number of seeds, or as many"
            " of the one as of the other."
        )
    return asked, known


def _whole(seed: object) -> int:
    """A seed that a user gives.

    Raises:
        UserError: it is no whole number, or out of range.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise UserError(f"seed {seed!r}: give a whole number, 0 or more.")
    return check_seed(int(seed))


def require_device(device: torch.device | str) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: says which ones are allowed.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"device {device!r} is not known; allowed: cpu, cuda, cuda:1, ...") from None
    if found.type not in ("cpu", "cuda") and not (found.type == "mps" and torch.backends.mps.is_available()):
        raise UserError(f"device {str(device)!r} is not supported here; allowed: cpu, cuda, cuda:1, ...")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {str(device)!r}: no such CUDA device is available here; take another, or cpu.")
