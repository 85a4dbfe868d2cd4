"""Codes: nearest ones, averages that follow latents, dead ones that come back, and a grid of rounded values."""

import itertools

import pytest
import torch

from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks.quantizers import Codebook, FiniteScalars
from medloom.networks.tokenizer import Tokenizer, TokenizerConfig


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(name))


def codebook(averaged: bool, codes: int = 8, width: int = 3) -> Codebook:
    with initial_weights(0):
        return Codebook(codes, width, averaged)


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize("grid", [(4, 5), (2, 3, 4)])
def test_tokens_are_the_nearest_codes_and_gradients_pass_straight(averaged: bool, grid: tuple[int, ...]) -> None:
    book = codebook(averaged)
    z = normal("z", 2, 3, *grid).requires_grad_()
    quantised, tokens, cost = book(z)
    flat = z.movedim(1, -1).reshape(-1, 3)
    assert torch.equal(tokens.flatten(), torch.cdist(flat, book.codebook).argmin(1))
    torch.testing.assert_close(quantised, book.lookup(tokens))
    (passed,) = torch.autograd.grad(quantised.sum(), z, retain_graph=True)
    assert torch.equal(passed, torch.ones_like(z))
    apart = (z - book.lookup(tokens)).square().mean()
    # Latents are drawn to codes by a quarter; codes to latents by their own update, or by gradients.
    torch.testing.assert_close(cost, (0.25 if averaged else 1.25) * apart)
    cost.backward()
    assert averaged or book.codebook.grad is not None


@pytest.mark.parametrize("averaged", [True, False])
def test_dead_codes_are_put_where_latents_are(averaged: bool) -> None:
    """Latents in two places far from all codes: after the first step both places have codes."""
    book = codebook(averaged).train()
    z = torch.cat([torch.full((1, 3, 4, 4), 50.0), torch.full((1, 3, 4, 4), -50.0)]) + normal("z", 2, 3, 4, 4)
    book(z)
    book.update(1, seed=0)
    tokens = book.tokens(z)
    assert (book.lookup(tokens) - z).abs().max() < 6
    assert len(tokens[0].unique()) > 1 and len(tokens[1].unique()) > 1
    assert not set(tokens[0].flatten().tolist()) & set(tokens[1].flatten().tolist())


def test_averages_move_to_the_mean_of_what_takes_them() -> None:
    book = codebook(True, codes=2).train()
    book.codebook.copy_(torch.tensor([[4.0, 4, 4], [-4, -4, -4]]))
    book.sums.copy_(book.codebook)
    z = torch.cat([torch.full((1, 3, 8, 8), 5.0), torch.full((1, 3, 8, 8), -3.0)])
    for step in range(2, 500):
        book(z)
        book.update(step, seed=0)
    torch.testing.assert_close(book.codebook, torch.tensor([[5.0, 5, 5], [-3, -3, -3]]), atol=0.1, rtol=0)


def test_nothing_moves_in_evaluation() -> None:
    book = codebook(True).eval()
    before = book.codebook.clone()
    book(normal("z", 2, 3, 4, 4))
    book.update(1, seed=0)
    assert torch.equal(book.codebook, before)


@pytest.mark.parametrize("levels", [(8, 5), (2, 3, 4), (7,)])
def test_every_code_of_the_grid_is_reached_and_read_back(levels: tuple[int, ...]) -> None:
    grid = FiniteScalars(levels)
    assert grid.codes == len(list(itertools.product(*map(range, levels)))) and grid.width == len(levels)
    tokens = torch.arange(grid.codes)[:, None]
    values = grid.lookup(tokens)
    assert values.shape == (grid.codes, len(levels), 1) and values.abs().max() <= 1.0
    assert len(values.unique(dim=0)) == grid.codes
    # Latents of all sizes take all codes, and what they are quantised to is the code that is read back.
    z = 4 * normal("z", 64, len(levels), 40)
    quantised, found, cost = grid(z)
    assert set(found.flatten().tolist()) == set(range(grid.codes)) and cost == 0
    torch.testing.assert_close(quantised, grid.lookup(found))


@pytest.mark.parametrize(("quantizer", "levels"), [("ema", ()), ("gradient", ()), ("fsq", (4, 3))])
def test_a_tokenizer_states_the_input_of_its_decoder(quantizer: str, levels: tuple[int, ...]) -> None:
    with initial_weights(0):
        tokenizer = Tokenizer(TokenizerConfig(2, 1, (8, 8), 1, quantizer, 12, len(levels) or 5, levels))
    vectors, tokens = tokenizer.code_vectors(), torch.tensor([[[0, 11, 3]]])
    assert vectors.shape == (12, len(levels) or 5)
    assert torch.equal(vectors[tokens].movedim(-1, 1), tokenizer.quantizer.lookup(tokens))
