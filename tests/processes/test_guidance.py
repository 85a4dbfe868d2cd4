import pytest
import torch

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.generators.tensors import ConditionTensors, joined
from medloom.processes.guidance import draw_subset, guidance_coefficients, guide, nested_subsets

PARTS = ("mask", "table", "text")


def brute_force(predictions, scales):
    """The definition: e_0 + sum_i s_i (e_i - e_{i-1})."""
    total = predictions[0]
    for scale, here, before in zip(scales, predictions[1:], predictions, strict=False):
        total = total + scale * (here - before)
    return total


@pytest.mark.parametrize("scales", [(1.5, 2, 7.5), (3, 3, 3), (1, 1, 1), (1, 5, 5), (0, 2, 0)])
def test_coefficients_equal_the_definition(scales):
    predictions = torch.randn(4, generator=torch_generator("guidance"), dtype=torch.float64)
    value = dict(zip(nested_subsets(PARTS), predictions, strict=True))
    coefficients = guidance_coefficients(PARTS, dict(zip(PARTS, scales, strict=True)))
    total = sum(factor * value[kept] for kept, factor in coefficients)
    torch.testing.assert_close(total, brute_force(predictions, scales))
    assert sum(factor for _, factor in coefficients) == pytest.approx(1)


def test_equal_scales_are_merged():
    everything, nothing = frozenset(PARTS), frozenset()
    assert guidance_coefficients(PARTS, dict.fromkeys(PARTS, 1.0)) == [(everything, 1.0)]
    assert guidance_coefficients(PARTS, {}) == [(everything, 1.0)]
    assert guidance_coefficients(PARTS, dict.fromkeys(PARTS, 7.5)) == [(nothing, -6.5), (everything, 7.5)]
    assert guidance_coefficients((), {}) == [(nothing, 1.0)]
    assert guidance_coefficients(PARTS, {"text": 3.0}) == [(frozenset(("mask", "table")), -2.0), (everything, 3.0)]


@pytest.mark.parametrize("scales", [{"text": -1.0}, {"text": float("nan")}, {"text": float("inf")}, {"prior": 1.0}])
def test_bad_scales_are_named(scales):
    with pytest.raises(UserError, match=next(iter(scales))):
        guidance_coefficients(PARTS, scales)


def texts(pooled):
    """Conditions of one token each, with pooled vectors."""
    return ConditionTensors(text_pooled=pooled, text_mask=torch.ones(1, 1, dtype=torch.bool))


def test_one_batch_equals_separate_evaluations():
    batches = []

    def predict(x, t, conditions):
        batches.append(len(x))
        return torch.tanh(x * conditions.text_pooled.view(-1, 1, 1, 1)) + t.view(-1, 1, 1, 1)

    x = torch.randn(3, 1, 2, 2, generator=torch_generator("x"))
    t = torch.tensor([1.0, 2.0, 3.0])
    conditions = [texts(torch.full((3, 1), value)) for value in (0.0, 0.5, 2.0)]
    factors = [-0.5, -2.0, 3.5]
    guided = guide(predict, joined(conditions), factors)(x, t)
    separate = sum(factor * predict(x, t, given) for factor, given in zip(factors, conditions, strict=True))
    torch.testing.assert_close(guided, separate)
    assert batches[0] == 9


def test_subsets_that_disagree_are_refused():
    with pytest.raises(UserError, match="'text_pooled' is absent"):
        joined([texts(None), texts(torch.zeros(1, 1))])
    # A network that answers for one subset of two.
    with pytest.raises(ValueError):
        guide(lambda x, t, c: x[:1], None, [0.5, 0.5])(torch.zeros(1, 1), torch.zeros(1))


def test_texts_of_subsets_are_padded_to_one_length():
    long = ConditionTensors(text_embeddings=torch.ones(1, 3, 2), text_mask=torch.ones(1, 3, dtype=torch.bool))
    short = ConditionTensors(text_embeddings=torch.ones(1, 1, 2), text_mask=torch.ones(1, 1, dtype=torch.bool))
    both = joined([short, long])
    assert both.text_mask.tolist() == [[True, False, False], [True] * 3]
    assert both.text_embeddings[0].sum() == 2 and torch.equal(both.text_embeddings[1:], long.text_embeddings)
    assert both.mask_labels is None


def test_dropout_covers_exactly_the_nested_subsets():
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    dropped = draw_subset(u, PARTS, 0.1)
    counts = {subset: dropped.count(subset) for subset in set(dropped)}
    expected = {frozenset(PARTS): 100, frozenset(("table", "text")): 100, frozenset(("text",)): 100, frozenset(): 700}
    assert counts == expected
    assert {frozenset(PARTS) - subset for subset in counts} == set(nested_subsets(PARTS))
    assert set(draw_subset(u, PARTS, 0.0)) == {frozenset()}


@pytest.mark.parametrize("rate", [-0.1, 0.4])
def test_impossible_dropout_is_refused(rate):
    with pytest.raises(UserError, match="condition dropout"):
        draw_subset(torch.zeros(1), PARTS, rate)
