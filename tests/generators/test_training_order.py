"""Which rows a training step takes: whole passes, each in an order of its own."""

from collections import Counter

from medloom.generators.training_data import RowOrder


def test_a_pass_takes_each_row_once_in_an_order_of_its_own() -> None:
    order = RowOrder(3, [5, 6, 7, 9], batch=2)
    first, second = ([row for step in (2 * turn, 2 * turn + 1) for row in order.rows(step)] for turn in (0, 1))
    assert Counter(first) == Counter(second) == Counter([5, 6, 7, 9])
    assert order.rows(41) == RowOrder(3, [5, 6, 7, 9], batch=2).rows(41), "a function of seed and step"
    (rows, before), _ = RowOrder(0, [4], batch=4).micro_batches(0, rank=0, processes=1, accumulate=2)
    assert rows == [4, 4] and before == [0, 1], "a row that stands there twice has another noise"
