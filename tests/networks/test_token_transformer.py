"""The transformer of tokens: what each part of the condition does, masked context, positions, saving."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks.token_transformer import TokenTransformer, TokenTransformerConfig

CONFIG = TokenTransformerConfig(
    codes=11, grid=(4, 3), width=24, layers=2, heads=2, context_width=8, pooled_width=8, mask_channels=2, prior=True
)


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(name))


def network(config: TokenTransformerConfig) -> TokenTransformer:
    with initial_weights(0):
        built = TokenTransformer(config)
        for layer in built.layers:
            # These start at zero, with which every test of a condition would pass.
            if layer.affine is not None:
                torch.nn.init.normal_(layer.affine.weight)
            if layer.cross is not None:
                torch.nn.init.normal_(layer.cross.out.weight)
    return built.eval()


def inputs(config: TokenTransformerConfig) -> dict[str, torch.Tensor]:
    length = torch.tensor(config.grid).prod().item()
    generator = torch_generator("tokens")
    return {
        "tokens": torch.randint(0, config.codes + 1, (2, length), generator=generator),
        "context": normal("context", 2, 5, 8),
        "context_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        "pooled": normal("pooled", 2, 8),
        "mask": normal("mask", 2, 2, *config.grid),
        "prior": torch.randint(0, config.codes + 1, (2, length), generator=generator),
    }


@pytest.mark.parametrize("grid", [(4, 3), (2, 3, 2)])
def test_each_part_changes_the_prediction(grid: tuple[int, ...]) -> None:
    config = replace(CONFIG, grid=grid, width=24)
    transformer, given = network(config), inputs(config)
    logits = transformer(**given)
    assert logits.shape == (2, given["tokens"].shape[1], 11)
    for name in ("context", "pooled", "mask"):
        assert not torch.allclose(logits, transformer(**{**given, name: given[name] + 1.0})), name
    none = torch.full_like(given["prior"], config.codes)
    assert not torch.allclose(logits, transformer(**{**given, "prior": none}))


def test_context_that_does_not_count_changes_nothing() -> None:
    transformer, given = network(CONFIG), inputs(CONFIG)
    changed = given["context"].clone()
    changed[1, 3:] += 10.0
    torch.testing.assert_close(transformer(**given), transformer(**{**given, "context": changed}))


@pytest.mark.parametrize("fusion", ["affine", "none"])
def test_fusions_without_cross_attention(fusion: str) -> None:
    transformer, given = network(replace(CONFIG, fusion=fusion)), inputs(CONFIG)
    logits = transformer(**given)
    torch.testing.assert_close(logits, transformer(**{**given, "context": given["context"] + 1.0}))
    same = torch.allclose(logits, transformer(**{**given, "pooled": given["pooled"] + 1.0}))
    assert same == (fusion == "none")


def test_wanted_tokens_are_the_same_as_among_all() -> None:
    transformer, given = network(CONFIG), inputs(CONFIG)
    wanted = given["tokens"] % 2 == 0
    torch.testing.assert_close(transformer(**given, wanted=wanted), transformer(**given)[wanted])


def test_coarser_tokens_are_seen_where_they_lie() -> None:
    config = replace(CONFIG, grid=(4, 4), coarse_codes=5, layers=0)
    transformer = network(config)
    given = inputs(config)
    coarse = torch.zeros(2, 2, 2, dtype=torch.long)
    before = transformer(**given, coarse=coarse)
    coarse[:, 0, 1] = 3
    changed = (transformer(**given, coarse=coarse) - before).abs().sum(2).reshape(2, 4, 4) > 0
    expected = torch.zeros(2, 4, 4, dtype=torch.bool)
    expected[:, :2, 2:] = True
    assert torch.equal(changed, expected)


def test_checkpointing_changes_nothing() -> None:
    given = inputs(CONFIG)
    plain, saved = (network(replace(CONFIG, gradient_checkpointing=on)).train() for on in (False, True))
    torch.testing.assert_close(plain(**given), saved(**given))


def test_saved_and_read_back(tmp_path: Path) -> None:
    transformer, given = network(CONFIG), inputs(CONFIG)
    transformer.save_pretrained(tmp_path)
    again = TokenTransformer.from_pretrained(tmp_path).eval()
    assert again.config == CONFIG
    torch.testing.assert_close(again(**given), transformer(**given))


@pytest.mark.parametrize("grid", [(4, 3), (3, 4, 3)])
def test_a_convolution_sees_neighbouring_tokens(grid: tuple[int, ...]) -> None:
    config = replace(CONFIG, grid=grid, layers=1, mask_channels=0, prior=False, coarse_codes=0)
    transformer = network(config)
    torch.nn.init.zeros_(transformer.layers[0].attention.out.weight)
    tokens = torch.full((1, transformer.length), config.codes)
    changed = tokens.clone()
    changed[0, 0] = 1
    differ = (transformer(changed) - transformer(tokens)).abs().sum(-1).reshape(grid) > 1e-6
    beside = torch.zeros(grid, dtype=torch.bool)
    beside[tuple(slice(0, 2) for _ in grid)] = True
    assert torch.equal(differ, beside)


def test_codes_that_look_alike_start_alike() -> None:
    # Of four channels one says nothing and others are of other sizes; codes 0 and 1 are one, 2 is their opposite.
    vectors = normal("codes", 11, 4)
    vectors[:3] = torch.tensor([[2.0], [2.0], [-2.0]])
    vectors = vectors * torch.tensor([1.0, 30.0, 0.1, 0.0]) + 7
    transformer = network(replace(CONFIG, width=240))
    spread = float(transformer.tokens.weight.detach().std())
    with initial_weights(1):
        transformer.start_from_codes(vectors)
    assert float(transformer.tokens.weight.detach().std()) == pytest.approx(spread, rel=0.3)
    for table in (transformer.tokens.weight, transformer.prior.weight, transformer.head.weight):
        alike = torch.nn.functional.cosine_similarity(table[:1], table[1:11]).detach()
        assert 0.6 < alike[0] < 0.99 and alike[1] < -0.6 and alike[2:].abs().max() < alike[0]


def test_shapes_that_cannot_be() -> None:
    with pytest.raises(UserError, match="cannot be divided among 5 heads"):
        replace(CONFIG, heads=5)


@pytest.mark.parametrize("channels", [0, 2])
def test_conditions_fill_regions_and_grows_along_axes(channels: int) -> None:
    config = replace(CONFIG, mask_channels=channels, prior=False, region_styles=True)
    transformer, given = network(config), inputs(config)
    del given["prior"]
    regions = torch.zeros(2, 2, *config.grid)
    regions[:, 0, :, :2] = 1.0
    given["mask"] = regions if channels else None
    assert transformer.styles is not None
    # Attention and convolutions alone carry what is filled in elsewhere: without them the outside stays as it was.
    for layer in transformer.layers:
        torch.nn.init.zeros_(layer.attention.out.weight)
        torch.nn.init.zeros_(layer.local.convolution.weight)
    plain = transformer(**given)
    torch.nn.init.normal_(transformer.styles.projection.weight, generator=torch_generator("styles", 0))
    filled = (transformer(**given) - plain).abs().sum(-1).reshape(2, *config.grid)
    assert (filled[:, :, :2] > 1e-4).all()
    assert (filled[:, :, 2] == 0).all() if channels else (filled[:, :, 2] > 1e-4).all()
    assert not torch.allclose(filled[:, 0, 0], filled[:, 3, 0], rtol=0.05)
