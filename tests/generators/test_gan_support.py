"""Every row of the GAN in the support table: the part changes the image and learns, and a run of it is kept exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gan_rows import LOOP, NETWORK, TEXT, data_of, generator_of, randomise, rows_of, task_of

from medloom.core.errors import UserError
from medloom.core.types import Condition
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.storage import load_generator
from medloom.generators.support import SUPPORT, SupportRow, require_support
from medloom.training.devices import make_accelerator
from medloom.training.loop import train

ROWS = [row for row in SUPPORT if row.family == "gan"]
CHANGED = {
    "text": {"text": "a large square on the right"},
    "modality": {"modality": "Square"},
    "table": {"table": {"age": 41.0, "ward": "north"}},
}
# The trained weights that a part reaches the network through; a channel's are those of the first convolution.
WEIGHTS = {
    ("text", "cross-attention"): "condition.text",
    ("text", "affine"): "condition.pooled",
    ("modality", "cross-attention"): "condition.modality",
    ("modality", "affine"): "condition.modality",
    ("modality", "text"): "text.model",
    ("table", "cross-attention"): "condition.table",
    ("table", "affine"): "condition.table",
    ("mask", "channels"): "input.weight",
    ("mask", "spade"): "spade",
}


def build(row: SupportRow) -> GANGenerator:
    network = replace(NETWORK, kind=row.network, mask=row.fusion if row.part == "mask" else "channels")
    fusion = row.fusion if row.fusion in ("affine", "cross-attention") else "affine"
    text = replace(TEXT, modality_as="text" if row.fusion == "text" else "token")
    return generator_of(fusion, network, text, row.dims)


def pair_of(row: SupportRow) -> list[Condition]:
    """A condition, and the same with the row's part changed."""
    factual, other = rows_of(2, row.dims)
    changed = {"mask": other.mask} if row.part == "mask" else CHANGED[row.part]
    return [factual, replace(factual, **changed)]


def row_id(row: SupportRow) -> str:
    return f"{row.network}-{row.part}-{row.fusion}-{row.dims}D"


@pytest.mark.parametrize("row", [row for row in ROWS if row.supported], ids=row_id)
def test_a_supported_part_changes_the_image_and_learns(row: SupportRow) -> None:
    generator = build(row)
    require_support(row.family, row.network, row.part, row.fusion, row.dims)
    randomise(generator.model)
    factual, changed = generator.sample(pair_of(row), [5, 5])
    assert (factual - changed).abs().max() > 1e-4
    task = task_of(generator)
    (batch,) = next(task.batches(0, 0, 1))
    task.phases()[0].loss(task.pairing.module, batch)[0].backward()
    part = WEIGHTS[row.part, row.fusion]
    gradients = [p.grad for name, p in generator.model.named_parameters() if part in name]
    assert gradients and any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("row", [row for row in ROWS if row.supported], ids=row_id)
def test_a_run_of_two_steps_is_loaded_to_the_same_image(row: SupportRow, tmp_path: Path) -> None:
    generator = build(row)
    task = task_of(generator, data=data_of(generator, 4))
    before = {name: value.clone() for name, value in generator.model.network.state_dict().items()}
    train(task, LOOP, tmp_path, make_accelerator(LOOP, "cpu"))
    assert any(not torch.equal(value, before[name]) for name, value in generator.model.network.state_dict().items())
    task.save_model(tmp_path / "again")
    images = generator.sample(pair_of(row), [5, 6])
    assert torch.equal(load_generator(tmp_path / "again").sample(pair_of(row), [5, 6]), images)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.supported], ids=row_id)
def test_what_is_not_supported_gives_one_sentence(row: SupportRow) -> None:
    with pytest.raises(
        UserError, match="is not supported by the .* network: (condition on the columns with|train an editor)"
    ):
        require_support(row.family, row.network, row.part, row.fusion, row.dims)


def test_columns_without_fusion_are_refused() -> None:
    with pytest.raises(UserError, match="table by none in 2-D is not supported"):
        generator_of("none", columns=generator_of().columns)


def test_a_part_that_no_network_takes_is_refused() -> None:
    with pytest.raises(UserError, match="prior by spade in 2-D is not supported by the unet network of gan"):
        require_support("gan", "unet", "prior", "spade", 2)
