"""Errors of noise levels, and the weights that they give."""

import pytest
import torch

from medloom.generators.diffusion.level_errors import LevelErrors

NEAR, FAR = torch.full((8,), 1.0), torch.full((8,), -7.0)


def known(balance: float, steps: int = 5) -> LevelErrors:
    """Means of errors of 1 near the data and 0.01 far from it."""
    levels = LevelErrors(balance, torch.device("cpu"))
    for _ in range(steps):
        levels.add(NEAR, torch.ones(8))
        levels.add(FAR, torch.full((8,), 0.01))
        levels.advance()
    return levels


@pytest.mark.parametrize(("balance", "ratio"), [(1.0, 100), (0.5, 10), (0.0, 1)])
def test_levels_count_alike_whatever_their_errors(balance: float, ratio: float) -> None:
    levels = known(balance)
    near, far = levels.weights(NEAR), levels.weights(FAR)
    assert far[0] / near[0] == pytest.approx(ratio, rel=0.01)


def test_nearer_the_data_errors_count_as_where_texture_begins() -> None:
    levels = known(1.0)
    assert torch.equal(levels.weights(NEAR + 6), levels.weights(NEAR))


def test_micro_batches_of_a_step_have_the_same_weights() -> None:
    levels = known(1.0)
    before = levels.weights(NEAR)
    levels.add(NEAR, torch.full((8,), 50.0))
    assert torch.equal(levels.weights(NEAR), before)
    levels.advance()
    assert levels.weights(NEAR)[0] / levels.weights(FAR)[0] < 0.01


def test_nothing_is_known_before_the_first_step() -> None:
    levels = LevelErrors(1.0, torch.device("cpu"))
    levels.add(NEAR, torch.ones(8))
    assert torch.equal(levels.weights(NEAR), torch.ones(8))


def test_an_error_that_is_not_finite_is_not_noted() -> None:
    levels = known(1.0)
    levels.add(NEAR, torch.tensor([torch.inf, torch.nan, *[1.0] * 6]))
    levels.advance()
    assert levels.weights(NEAR).isfinite().all()


def test_a_resumed_run_goes_on_with_the_same_weights() -> None:
    levels, resumed = known(1.0), LevelErrors(1.0, torch.device("cpu"))
    resumed.load_state(levels.state())
    assert torch.equal(resumed.weights(FAR), levels.weights(FAR))
