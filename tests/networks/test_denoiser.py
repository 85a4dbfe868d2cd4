"""The N-D U-Net: shapes, folding, checkpointing, saving."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.networks import blocks
from medloom.networks.blocks import channels_to_space, space_to_channels, time_features
from medloom.networks.denoiser import UNet, UNetConfig
from medloom.networks.regions import by_region, partition

CONFIG = UNetConfig(
    channels=1, widths=(16, 32), attention=(False, True), head_width=16, patch=2, context_width=8, pooled_width=8
)


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(name))


def network(config: UNetConfig) -> UNet:
    with initial_weights(0):
        unet = UNet(config)
        # The output convolution starts at zero, which would make every test of it pass.
        torch.nn.init.normal_(unet.output.weight)
    return unet


def inputs(dims: int) -> tuple[torch.Tensor, ...]:
    x = normal("x", 2, 1, *(8,) * dims)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return x, torch.tensor([10.0, 900.0]), normal("context", 2, 5, 8), mask, normal("pooled", 2, 8)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_folding_is_undone(dims: int, factor: int) -> None:
    x = normal("x", 2, 3, *(8,) * dims)
    folded = space_to_channels(x, factor)
    assert folded.shape == (2, 3 * factor**dims, *(8 // factor,) * dims)
    assert torch.equal(channels_to_space(folded, factor), x)


def test_folding_agrees_with_torch() -> None:
    x = normal("x", 2, 3, 8, 12)
    assert torch.equal(space_to_channels(x, 2), torch.nn.functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_shape_in_is_shape_out(dims: int) -> None:
    arguments = inputs(dims)
    assert network(replace(CONFIG, dims=dims))(*arguments).shape == arguments[0].shape


def test_masked_tokens_do_not_count() -> None:
    unet = network(CONFIG)
    for name, parameter in unet.named_parameters():
        if "out.weight" in name:
            torch.nn.init.normal_(parameter, generator=torch_generator(name))
    x, t, context, mask, pooled = inputs(2)
    other = context.clone()
    other[1, 3:] = 100.0
    first, second = unet(x, t, context, mask, pooled), unet(x, t, other, mask, pooled)
    assert torch.equal(first, second)
    other[1, 2] = 100.0
    assert not torch.equal(first[1], unet(x, t, other, mask, pooled)[1])


def test_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        unet = network(replace(CONFIG, gradient_checkpointing=checkpointing)).train()
        unet(*inputs(2)).square().mean().backward()
        gradients.append([p.grad for p in unet.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_saved_and_loaded(tmp_path: Path) -> None:
    unet = network(CONFIG)
    unet.save_pretrained(tmp_path)
    again = UNet.from_pretrained(tmp_path)
    assert again.config == CONFIG and torch.equal(unet(*inputs(2)), again(*inputs(2)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_time_features_are_known() -> None:
    features = time_features(torch.tensor([0.0, 1.0]), 4)
    expected = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.5403, 0.99995, 0.84147, 0.0099998]])
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


def test_options_that_cannot_be() -> None:
    with pytest.raises(UserError, match="as many entries of attention as widths"):
        UNetConfig(widths=(8, 16), attention=(True,))
    with pytest.raises(UserError, match="fusion 'sum'"):
        UNetConfig(fusion="sum")


def test_widths_that_heads_cannot_share() -> None:
    with pytest.raises(UserError, match="160 cannot be divided among heads"):
        UNetConfig(widths=(96, 160), attention=(False, True), head_width=48)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_with_coordinates_distinguishes_left_from_right(dims: int) -> None:
    torch.manual_seed(0)
    config = UNetConfig(dims=dims, channels=1, widths=(8, 16), attention=(False, False), patch=1, coordinates=True)
    network = UNet(config)
    torch.nn.init.normal_(network.output.weight)
    x = torch.zeros(1, 1, *[16] * dims)
    out = network(x, torch.tensor([500.0]))
    middle = out[(0, 0, *[8] * (dims - 1))]
    # Without coordinates a blank image gives the same value everywhere but near the border.
    assert middle[6:10].std() > 1e-3


@pytest.mark.parametrize(("dims", "fusion"), [(2, "channels"), (2, "spade"), (3, "channels")])
def test_a_style_of_a_region_reaches_that_region_at_once(dims: int, fusion: str) -> None:
    """The pooled vector fills channels in the regions of the map and nowhere else; SPADE takes them in, from zero."""
    config = replace(
        CONFIG, dims=dims, spatial_channels=2, spatial_fusion=fusion, region_styles=3, attention=(False, False)
    )
    unet = network(config)
    assert unet.styles is not None
    x, t, context, mask, pooled = inputs(dims)
    spatial = torch.zeros(2, 2, *(8,) * dims)
    spatial[:, 0, 2:6] = 1.0
    assert not unet.styles(spatial, pooled).any(), "they start at zero"
    torch.nn.init.normal_(unet.styles.projection.weight)
    styles = unet.styles(spatial, pooled)
    assert styles.shape == (2, 3, *(8,) * dims)
    assert styles[:, :, 2:6].any() and not styles[:, :, :2].any()
    before = unet(x, t, context, mask, pooled, spatial)
    torch.nn.init.zeros_(unet.styles.projection.weight)
    assert before.shape == x.shape
    assert fusion == "spade" or not torch.allclose(before, unet(x, t, context, mask, pooled, spatial))


@pytest.mark.parametrize(("dims", "fusion"), [(2, "channels"), (2, "spade"), (3, "channels")])
def test_the_head_sees_single_pixels_of_the_spatial_condition(dims: int, fusion: str) -> None:
    """The styles of a region of one pixel change the head's output there and beside it, and nowhere else."""
    config = replace(
        CONFIG, dims=dims, patch=2, spatial_channels=2, spatial_fusion=fusion, region_styles=3, pixel_width=8
    )
    unet = network(replace(config, attention=(False, False)))
    assert unet.head is not None and unet.styles is not None
    x, t, context, mask, pooled = inputs(dims)
    spatial = torch.zeros(2, 2, *(8,) * dims)
    pixel = (5,) * dims
    spatial[(slice(None), 0, *pixel)] = 1.0
    assert unet(x, t, context, mask, pooled, spatial).shape == x.shape
    torch.nn.init.normal_(unet.head.output.weight)
    features = torch.randn(2, config.widths[0], *(4,) * dims)
    embedding = torch.randn(2, 4 * config.widths[0])
    torch.nn.init.normal_(unet.head.styles.projection.weight)

    def head(pooled: torch.Tensor) -> torch.Tensor:
        return unet.head(features, x, unet.head.at_places([spatial], spatial, pooled, None), embedding)

    changed = (head(pooled + 1) - head(pooled)).abs().sum(1) > 0
    beside = (slice(None), *(slice(4, 7),) * dims)
    assert changed[beside].all() and int(changed.sum()) == 2 * 3**dims


def test_regions_do_not_overlap_and_cover_where_there_is_a_mask() -> None:
    mask = torch.zeros(2, 3, 4, 4)
    mask[0, 0, :2], mask[0, 1, 2, :2], mask[0, 2] = 1.0, 0.5, 1.0
    regions = partition(mask)
    assert (regions.sum(1) == mask[:, -1]).all() and (regions >= 0).all()
    torch.testing.assert_close(regions[:, :-1], mask[:, :-1], atol=0, rtol=0)
    assert regions[0, -1, 2].tolist() == [0.5, 0.5, 1.0, 1.0] and not regions[1].any(), "no mask, no region"


@pytest.mark.parametrize("dims", [2, 3])
def test_octave_bands_show_faint_texture_at_the_scale_of_coarse_structure(dims: int) -> None:
    size = (32,) * dims
    waves = [torch.linspace(0, 1, 32).mul(2 * torch.pi * cycles).sin().expand(size) for cycles in (13, 6, 3)]
    image = (1e-3 * waves[0] + 0.1 * waves[1] + 0.9 * waves[2]).expand(2, 2, *size)
    bands = blocks.octave_bands(image, 3)
    assert bands.shape == (2, 6, *size)
    assert bands.square().flatten(2).mean(2).sqrt() == pytest.approx(torch.ones(2, 6), abs=1e-2)
    # However faint, each band is the same.
    torch.testing.assert_close(blocks.octave_bands(1e-2 * image + 0.5, 3), bands, atol=1e-3, rtol=0)
    assert not blocks.octave_bands(torch.ones(1, 1, *size), 2).any(), "nothing is made of a flat image"
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(blocks.octave_bands(image, 3), bands)
    # Bands and the coarsest blur add up to the image.
    blurred, whole = image, torch.zeros_like(image)
    for level in range(3):
        coarser = blocks._blurred(blurred, 2**level)
        whole, blurred = whole + (blurred - coarser), coarser
    torch.testing.assert_close(whole + blurred, image, atol=1e-5, rtol=0)


def test_the_head_is_given_the_bands_of_the_noisy_image() -> None:
    unet = network(replace(CONFIG, attention=(False, False), patch=2, pixel_width=8, pixel_bands=3))
    x, t, context, mask, pooled = inputs(2)
    torch.nn.init.normal_(unet.head.output.weight)
    before = unet(x, t, context, mask, pooled)
    assert before.shape == x.shape
    bands = slice(4 + x.shape[1], 4 + 4 * x.shape[1])
    unet.head.mix.weight.data[:, bands] = 0
    assert not torch.allclose(before, unet(x, t, context, mask, pooled))


@pytest.mark.parametrize("dims", [2, 3])
def test_without_a_head_the_input_is_given_the_bands_on_two_scales(dims: int) -> None:
    unet = network(replace(CONFIG, dims=dims, attention=(False, False), patch=2, pixel_bands=3))
    x, t, context, mask, pooled = inputs(dims)
    torch.nn.init.normal_(unet.output.weight)
    silent = unet(x, t, context, mask, pooled)
    assert silent.shape == x.shape
    folded = x.shape[1] * 2**dims
    assert unet.bands.weight.shape[1] == 6 * folded and not unet.bands.weight.any(), (
        "twice three bands, silent at first"
    )
    for kind in (slice(None, 3 * folded), slice(3 * folded, None)):
        heard = copy.deepcopy(unet)
        torch.nn.init.normal_(heard.bands.weight[:, kind])
        assert not torch.allclose(silent, heard(x, t, context, mask, pooled))


def test_faint_noise_beside_strong_edges_is_seen_at_its_own_scale() -> None:
    noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    edges = torch.zeros_like(noise)
    edges[..., 10] = 1.0
    flat = torch.ones_like(noise, dtype=torch.bool)
    flat[..., 6:15] = False
    faint, strong = (
        blocks.octave_bands(size * noise + edges, 1, faint=True)[:, 1:][flat].std() for size in (0.01, 0.1)
    )
    assert 0.9 < faint < 1.2 and 0.9 < strong < 1.2
    assert blocks.octave_bands(0.01 * noise + edges, 1)[flat].std() < 0.1, "edges drown it in the root mean square"
    assert not blocks.octave_bands(torch.ones(1, 1, 8, 8), 2, faint=True).any(), "nothing is made of a flat image"


@pytest.mark.parametrize(("dims", "patch"), [(2, 2), (2, 1), (3, 2)])
def test_each_region_has_its_own_output_to_the_pixel(dims: int, patch: int) -> None:
    size = (8,) * dims
    regions = torch.zeros(2, 3, *size)
    owner = torch.randint(0, 3, (2, 1, *size), generator=torch.Generator().manual_seed(0))
    regions[:1] = regions[:1].scatter(1, owner[:1], 1.0)
    # The last channel of a mask is where it is; its last region is where no class is.
    regions[:1, 2] = 1.0
    found = torch.arange(4.0).repeat_interleave(2 * patch**dims).view(1, -1, *[1] * dims)
    output = by_region(found.expand(2, -1, *(8 // patch,) * dims), regions, patch)
    assert output.shape == (2, 2, *size)
    assert torch.equal(output[0], (1.0 + owner[0]).expand(2, *size)), "that of the region"
    assert not output[1].any(), "that of no region, where the mask is left out"


def test_with_outputs_of_regions_a_change_in_one_leaves_the_next_alone() -> None:
    config = replace(CONFIG, patch=2, spatial_channels=2, region_styles=3, pixel_width=8, pixel_bands=1)
    unet = network(replace(config, attention=(False, False), fusion="affine", region_outputs=True))
    x, t, _, _, pooled = inputs(2)
    spatial = torch.zeros(2, 2, 8, 8)
    spatial[:, 0, :3], spatial[:, 1] = 1.0, 1.0
    for layer in (unet.output, unet.head.output):
        torch.nn.init.normal_(layer.weight)
    before = unet(x, t, pooled=pooled, spatial=spatial)
    assert before.shape == x.shape
    # The last layers' weights of the second region: folded pixels hold both regions.
    for layer in (unet.output, unet.head.output):
        layer.weight.data.chunk(3)[2].zero_()
    after = unet(x, t, pooled=pooled, spatial=spatial)
    assert torch.equal(after[:, :, :3], before[:, :, :3]) and not after[:, :, 3:].equal(before[:, :, 3:])


def test_with_styles_only_the_pooled_vector_reaches_the_image_through_regions_alone() -> None:
    config = replace(CONFIG, patch=2, spatial_channels=2, region_styles=3, attention=(False, False), fusion="affine")
    unet = network(replace(config, styles_only=True))
    x, t, _, _, pooled = inputs(2)
    for layer in (unet.output, unet.styles.projection):
        torch.nn.init.normal_(layer.weight)
    spatial = torch.zeros(2, 2, 8, 8)
    one, other = (unet(x, t, pooled=vector, spatial=spatial) for vector in (pooled, pooled + 1))
    assert torch.equal(one, other)
    spatial[:, 1, 4:] = 1.0
    one, other = (unet(x, t, pooled=vector, spatial=spatial) for vector in (pooled, pooled + 1))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(("styles_only", "reached"), [(True, False), (False, True)])
def test_with_styles_only_what_changes_in_one_place_is_not_carried_to_all(styles_only: bool, reached: bool) -> None:
    config = replace(CONFIG, patch=1, widths=(8,), attention=(False,), spatial_channels=2, region_styles=3)
    unet = network(replace(config, fusion="affine", styles_only=styles_only))
    for layer in (unet.output, unet.down[0][0].block.conv2):
        torch.nn.init.normal_(layer.weight)
    x, pooled, spatial = (
        torch.zeros(1, CONFIG.channels, 8, 48),
        torch.zeros(1, CONFIG.pooled_width),
        torch.zeros(1, 2, 8, 48),
    )
    near = x.clone()
    near[..., 0] = 1.0
    one, other = (unet(image, torch.zeros(1), pooled=pooled, spatial=spatial) for image in (x, near))
    assert not torch.equal(one[..., 0], other[..., 0])
    assert torch.equal(one[..., 40:], other[..., 40:]) is not reached


@pytest.mark.parametrize("changed", [{"fusion": "cross-attention"}, {"region_styles": 0}])
def test_styles_alone_need_styles_and_no_tokens(changed: dict[str, object]) -> None:
    config = replace(CONFIG, spatial_channels=2, region_styles=3, attention=(False, False), fusion="affine")
    with pytest.raises(UserError, match="styles_only"):
        replace(config, styles_only=True, **changed)


@pytest.mark.parametrize("dims", [2, 3])
def test_styles_with_slopes_grow_along_the_axes_inside_their_region(dims: int) -> None:
    config = replace(CONFIG, dims=dims, spatial_channels=1, region_styles=2, region_slopes=True)
    styles = network(config).styles
    assert styles is not None
    spatial = torch.zeros(1, 1, *(8,) * dims)
    spatial[:, :, 1:7] = 1.0
    # A pooled vector of which only the bias is left: level 0, slope 1 along the first axis, 2 along the second.
    torch.nn.init.zeros_(styles.projection.weight)
    levels = torch.tensor([0.0, 1.0, 2.0, 0.0][: 1 + dims])
    styles.projection.bias.data = levels[:, None, None].expand(1 + dims, 1, 2).flatten().clone()
    filled = styles(spatial, torch.zeros(1, CONFIG.pooled_width))
    axis = torch.linspace(-1, 1, 8)
    expected = axis.view(-1, *[1] * (dims - 1)) + 2 * axis.view(1, -1, *[1] * (dims - 2))
    torch.testing.assert_close(filled[0, 0, 1:7], expected.expand(8, *(8,) * (dims - 1))[1:7])
    assert not filled[0, 0, 0].any() and not filled[0, 0, 7].any()
    # The right half of an image, as a patch, gets the position of the right half.
    place = torch.tensor([[[-1.0, 1.0]] * (dims - 1) + [[0.0, 1.0]]])
    styles.projection.bias.data = torch.zeros_like(styles.projection.bias)
    styles.projection.bias.data[-1] = 1.0
    assert (styles(spatial, torch.zeros(1, CONFIG.pooled_width), place)[0, 1, 1:7] > 0).all()


def test_slopes_without_styles_are_refused() -> None:
    with pytest.raises(UserError, match="network.region_slopes needs a mask"):
        UNet(replace(CONFIG, region_slopes=True))


def test_styles_without_a_region_are_refused() -> None:
    with pytest.raises(UserError, match="region styles need a spatial condition"):
        UNet(replace(CONFIG, region_styles=4))
