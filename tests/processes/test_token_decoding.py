"""Masked tokens: schedules, decoding from seeds, log-probabilities that can be scored again."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import gumbel_r, kstest

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.generators.sampling import TokenSampling
from medloom.processes.token_decoding import (
    SCHEDULES,
    DecodingOptions,
    TokenStep,
    decode,
    draw_masks,
    gumbel_noise,
    log_probabilities,
    masked_counts,
    masked_fraction,
    require_tokens,
    rescored,
)

CODES, LENGTH = 7, 12
SEEDS = (3, 1, 4)


def table(tokens: torch.Tensor, done: float) -> torch.Tensor:
    """Logits that depend on the place, on what is known, and on how far decoding is."""
    rows = torch.randn(LENGTH, CODES, generator=torch_generator("logits"))
    known = (tokens < CODES).float().mean(1)
    return rows[None] * (1 + known[:, None, None]) + done


def start(count: int = len(SEEDS)) -> torch.Tensor:
    return torch.full((count, LENGTH), CODES)


def decoded(options: DecodingOptions, seeds: tuple[int, ...] = SEEDS) -> tuple[torch.Tensor, list[TokenStep]]:
    steps: list[TokenStep] = []
    return decode(table, start(len(seeds)), CODES, seeds, options, steps.append), steps


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fractions_fall_from_all_to_none(schedule: str) -> None:
    shares = masked_fraction(torch.linspace(0, 1, 11), schedule)
    assert shares[0] == 1 and shares[-1].abs() < 1e-6 and (shares.diff() < 0).all()


def test_the_cosine_is_that_of_the_paper() -> None:
    assert masked_fraction(torch.tensor([0.5]), "cosine").item() == pytest.approx(math.cos(math.pi / 4))
    # 8 steps of 256 tokens: ceil and floor aside, what the published schedule leaves masked.
    assert masked_counts(256, 8, "cosine") == [251, 236, 212, 181, 142, 97, 49, 0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("length", "steps"), [(12, 12), (12, 5), (1, 1), (64, 63)])
def test_each_step_decodes_one_token_or_more(length: int, steps: int, schedule: str) -> None:
    counts = [length, *masked_counts(length, steps, schedule)]
    assert len(counts) == steps + 1 and counts[-1] == 0
    assert all(after < before for before, after in pairwise(counts))


def test_masks_have_their_fraction_and_at_least_one_token() -> None:
    masks = draw_masks(torch.tensor([0.0, 0.5, 1.0]), torch.rand(3, 10, generator=torch_generator("u")))
    assert masks.sum(1).tolist() == [1, 5, 10]


def test_a_sample_is_a_function_of_its_seed_alone() -> None:
    options = DecodingOptions(steps=4)
    together, steps = decoded(options)
    alone = torch.cat([decoded(options, (seed,))[0] for seed in SEEDS])
    assert torch.equal(together, alone) and (together < CODES).all()
    assert len({tuple(row.tolist()) for row in together}) == len(SEEDS)
    for step in steps:
        assert torch.equal(step.masked, step.before == CODES)
        # What was known stays, and only what was drawn is masked again.
        assert torch.equal(step.drawn[~step.masked], step.before[~step.masked])
        assert torch.equal(step.after[~step.masked], step.before[~step.masked])


def test_log_probabilities_are_those_of_the_draws() -> None:
    options = DecodingOptions(steps=5, temperature=1.3, annealing=0.5, top_k=5, top_p=0.95, cutoff=0.2)
    _, steps = decoded(options)
    for step, again in zip(steps, rescored(table, steps, options), strict=True):
        torch.testing.assert_close(step.log_probabilities, again, atol=1e-4, rtol=0)
        assert (step.log_probabilities[~step.masked] == 0).all()
        assert torch.isfinite(step.log_probabilities).all() and (step.log_probabilities[step.masked] < 0).all()


def test_draws_follow_the_logits() -> None:
    """One step, all tokens at once: frequencies over seeds are the probabilities."""
    seeds = tuple(range(3000))
    tokens, _ = decoded(DecodingOptions(steps=1), seeds)
    wanted = table(start(1), 0.0)[0].softmax(-1)
    found = torch.nn.functional.one_hot(tokens, CODES).float().mean(0)
    assert (found - wanted).abs().max() < 0.035


def test_the_noise_is_gumbel_s_and_unrelated_from_number_to_number() -> None:
    # Neighbouring keys, which a poor mix would turn into related numbers.
    noise = gumbel_noise(torch.arange(4000), 256)
    assert kstest(noise[::7].flatten()[:50_000].numpy(), gumbel_r.cdf).pvalue > 0.01
    within, across = noise - noise.mean(), noise.var()
    for one, other in ((within[:, 1:], within[:, :-1]), (within[1:], within[:-1]), (within[2048:], within[:-2048])):
        assert ((one * other).mean() / across).abs() < 0.005
    assert torch.equal(gumbel_noise(torch.tensor([2**32 - 1]), 5)[0, :3], gumbel_noise(torch.tensor([2**32 - 1]), 3)[0])


def test_one_seed_draws_one_code_where_probabilities_are_alike() -> None:
    """Of two conditions: draws differ hardly more often than their probabilities do, whatever the codes' order."""
    logits = 2 * torch.randn(1, 64, generator=torch_generator("logits"))
    change = torch.randn(1, 64, generator=torch_generator("change"))
    seeds, keyed = tuple(range(40)), torch.full((40, 100), 64)

    def draws(scores: torch.Tensor) -> torch.Tensor:
        return decode(lambda tokens, done: scores.expand(*tokens.shape, -1), keyed, 64, seeds, DecodingOptions(steps=1))

    before, after = draws(logits), draws(logits + 0.2 * change)
    distance = 0.5 * (logits.softmax(-1) - (logits + 0.2 * change).softmax(-1)).abs().sum().item()
    assert 0.03 < distance < 0.2
    differing = (before != after).float().mean().item()
    assert distance * 0.8 < differing < 2 * distance / (1 + distance) * 1.1


def test_temperature_top_k_and_top_p() -> None:
    logits = torch.tensor([[[2.0, 1.0, 0.0, -1.0]]])
    plain = logits.log_softmax(-1)
    torch.testing.assert_close(log_probabilities(logits, DecodingOptions(), 0), plain)
    torch.testing.assert_close(
        log_probabilities(logits, DecodingOptions(temperature=2.0), 0), (logits / 2).log_softmax(-1)
    )
    annealed = DecodingOptions(steps=4, temperature=2.0, annealing=1.0)
    assert [annealed.temperature_at(step) for step in range(4)] == [2.0, 1.5, 1.0, 0.5]
    two = log_probabilities(logits, DecodingOptions(top_k=2), 0)[0, 0]
    assert two[2:].tolist() == [-math.inf] * 2
    torch.testing.assert_close(two[:2], logits[0, 0, :2].log_softmax(-1))
    # Probabilities 0.644, 0.237, 0.087, 0.032: the first two reach 0.8.
    nucleus = log_probabilities(logits, DecodingOptions(top_p=0.8), 0)[0, 0]
    assert torch.isfinite(nucleus).tolist() == [True, True, False, False]


def test_what_label_smoothing_gives_to_every_code_is_not_drawn_by_default() -> None:
    # A code that is unlikely at this place, as what is small and may lie anywhere is, can still be drawn.
    unsmoothed = torch.zeros(8)
    unsmoothed[3], unsmoothed[5] = 0.96, 0.04
    smoothed = 0.1 / 8 + 0.9 * unsmoothed
    default = DecodingOptions(cutoff=TokenSampling().cutoff)
    kept = log_probabilities(smoothed.log()[None, None], default, 0).flatten()
    assert torch.isfinite(kept).nonzero().flatten().tolist() == [3, 5]
    assert kept.exp().sum().item() == pytest.approx(1) and kept[5].exp().item() == pytest.approx(0.053, abs=0.001)
    # Where all codes are less likely than the cutoff, the most likely one stays.
    assert torch.isfinite(log_probabilities(torch.zeros(1, 1, 4), DecodingOptions(cutoff=9.0), 0)).all()
    one = log_probabilities(torch.tensor([[[0.1, 0.0, 0.0]]]), DecodingOptions(cutoff=9.0), 0)
    assert torch.isfinite(one).flatten().tolist() == [True, False, False]


def test_without_noise_the_least_sure_are_masked_again() -> None:
    _, steps = decoded(DecodingOptions(steps=3, remasking=0.0))
    first = steps[0]
    again = first.after == CODES
    for scores, masked in zip(first.log_probabilities, again, strict=True):
        assert scores[masked].max() <= scores[~masked].min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "--sampling temperature=0.0: it has to be above 0"),
        ({"temperature": -1.0}, "--sampling temperature="),
        ({"annealing": 1.5}, "--sampling annealing="),
        ({"top_k": -1}, "--sampling top_k="),
        ({"top_p": 0.0}, "--sampling top_p="),
        ({"cutoff": -1.0}, "--sampling cutoff="),
        ({"remasking": -1.0}, "--sampling remasking="),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_values_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DecodingOptions(**options).check()


def test_more_steps_than_tokens_and_tokens_of_another_codebook() -> None:
    with pytest.raises(UserError, match="--steps 13: each step decodes at least one of 12 tokens; give 1 to 12"):
        decoded(DecodingOptions(steps=13))
    require_tokens(torch.tensor([0, 6]), 7, "the cache")
    with pytest.raises(UserError, match="the cache has tokens from 0 to 7, but the codebook has 7 codes"):
        require_tokens(torch.tensor([0, 7]), 7, "the cache")
