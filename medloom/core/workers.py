"""Work over several processes, which write for only as long as the process that started them does."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from medloom.core.files import held_folders

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def over_processes(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, batch: int = 1
) -> Iterator[Iterator[Result]]:
    """The results of `work` on each item, in order, within the block.

    Args:
        work: can be pickled.
        items: what it is called with.
        workers: processes; with one, this process does the work.
        batch: items that a process takes at once.
    """
    if workers == 1:
        yield map(work, items)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    task = _Task(work)
    try:
        pool = Parallel(n_jobs=workers, return_as="generator", batch_size=batch)
        yield pool(delayed(task)(item) for item in items)
    finally:
        # Idle processes would occupy memory and complain when they are ended later.
        get_reusable_executor().shutdown(wait=True)


@dataclass(frozen=True)
class _Task(Generic[Item, Result]):
    """Work in a process of its own, which knows the output folders of the one that started it."""

    work: Callable[[Item], Result]
    starter: int = field(default_factory=os.getpid)
    held: dict[Path, int] = field(default_factory=lambda: dict(held_folders))

    def __call__(self, item: Item) -> Result:
        if os.name != "nt" and os.getppid() != self.starter:
            # It was killed, and the same command may write the same folder again by now.
            os._exit(1)
        held_folders.clear()
        held_folders.update(self.held)
        return self.work(item)
