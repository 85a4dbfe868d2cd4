"""The next batch is made while the present one is trained on."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items of an endless iterator in their order, each made by a thread while the one before it is in use.

    What a step's batch holds must not depend on the step before it. An error in making an item is raised where the item
    is taken.
    """
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(next, items)
        while True:
            item = coming.result()
            coming = pool.submit(next, items)
            yield item
