from collections.abc import Iterator
from itertools import count, islice
from threading import Event, current_thread, main_thread

import pytest

from medloom.core.errors import UserError
from medloom.training.loop import one_ahead


def test_items_come_in_order():
    assert list(islice(one_ahead(count(3)), 5)) == [3, 4, 5, 6, 7]


def test_the_next_item_is_made_while_one_is_in_use_and_no_more_than_that():
    made: list[int] = []
    second = Event()

    def items() -> Iterator[int]:
        for number in count():
            assert current_thread() is not main_thread()
            made.append(number)
            if number == 1:
                second.set()
            yield number

    taken = one_ahead(items())
    assert next(taken) == 0
    assert second.wait(10)
    taken.close()  # waits for the thread
    assert made == [0, 1]


def test_an_error_is_raised_where_the_item_is_taken():
    def items() -> Iterator[int]:
        yield 0
        raise UserError("images/3.png cannot be read.")

    taken = one_ahead(items())
    assert next(taken) == 0
    with pytest.raises(UserError, match="cannot be read"):
        next(taken)
