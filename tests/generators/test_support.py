"""Every row of the support table: with random fusion weights the part changes the output and receives gradient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.generators.diffusion.build import build_generator
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.options import NetworkOptions, NoiseOptions, TextOptions
from medloom.generators.support import SUPPORT, Row, as_markdown, require_support
from medloom.networks.autoencoder import make_autoencoder

# The rows of the GAN are exercised in test_gan_support.py.
DIFFUSION = [row for row in SUPPORT if row.family == "diffusion"]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "support.md"
COLUMNS = (TableColumn("age", mean=60.0, deviation=10.0, low=30.0, high=90.0), TableColumn("ward", ("north", "south")))
TABLE = {"age": 50.0, "ward": "north"}
FACTUAL = Condition("a disc on the left", "Disc", "left", Path("a prior"), Path("some mask"), TABLE)
CHANGED = {
    "text": replace(FACTUAL, text="a large square on the right"),
    "modality": replace(FACTUAL, modality="Square"),
    "table": replace(FACTUAL, table={"age": 51.0, "ward": "north"}),
    "mask": replace(FACTUAL, mask=Path("another mask")),
    "prior": replace(FACTUAL, prior=Path("another prior")),
}
# The trained weights that a part reaches the denoiser through.
WEIGHTS = {
    ("text", "cross-attention"): "condition.text",
    ("text", "affine"): "condition.pooled",
    ("modality", "cross-attention"): "condition.modality",
    ("modality", "affine"): "condition.modality",
    ("modality", "text"): "text.model",
    ("table", "cross-attention"): "condition.table",
    ("table", "affine"): "condition.table",
    ("mask", "channels"): "denoiser.input",
    ("mask", "spade"): "spade",
    ("prior", "channels"): "denoiser.input",
}


def build(row: Row) -> DiffusionGenerator:
    dims = row.dims
    spec = ImageSpec((8,) * dims, 1, "pad", {name: Intensity("window", GREY, 0, 255) for name in ("Disc", "Square")})
    fusion = row.fusion if row.fusion in ("cross-attention", "affine") else "cross-attention"
    network = NetworkOptions(
        exportable=row.network == "exportable",
        widths=(16, 32),
        attention=(False, True),
        head_width=16,
        patch=1,
        fusion=fusion,
        mask=row.fusion if row.part == "mask" else "none",
        mask_classes=(1, 2) if row.part == "mask" else (),
        prior=row.fusion if row.part == "prior" else "none",
        condition_width=16,
    )
    modality_as = "text" if row.fusion == "text" else "token"
    text = TextOptions(width=16, layers=1, vocabulary=600, max_tokens=24, modality_as=modality_as)
    autoencoder = make_autoencoder(1, (16,), 4) if network.exportable else None
    corpus = [f"{condition.modality}: {condition.text}" for condition in CHANGED.values()]
    columns = COLUMNS if row.part == "table" else ()
    generator = build_generator(
        spec, corpus, ["Disc", "Square"], ["left"], columns, autoencoder, network, text, NoiseOptions(), seed=0
    )
    randomise(generator.model)
    return generator


def randomise(module: torch.nn.Module) -> None:
    """Fusions start at zero; a test on zeros would pass whatever they do."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch_generator(name)))


def mask_reader(dims: int) -> Callable[[Condition], np.ndarray]:
    def read(condition: Condition) -> np.ndarray:
        mask = np.zeros((8,) * dims, np.int16)
        mask[2:6, 2:6] = 1 if condition.mask == FACTUAL.mask else 2
        return mask

    return read


def prior_reader(dims: int) -> Callable[[Condition], np.ndarray]:
    def read(condition: Condition) -> np.ndarray:
        return np.full((1,) + (8,) * dims, 0.5 if condition.prior == FACTUAL.prior else -0.5, np.float32)

    return read


def predict(generator: DiffusionGenerator, condition: Condition, dims: int) -> Tensor:
    x = torch.randn((1, *generator.latent_shape), generator=torch_generator("x"))
    priors = generator.priors([condition], prior_reader(dims))
    prior = None if priors is None else priors.told
    inputs = generator.inputs([condition], frozenset(generator.parts), None, mask_reader(dims), prior)
    ids, mask = generator.model.text.tokenize([f"{condition.modality}: {condition.text}"])
    if generator.modality_as == "text":
        inputs |= {"ids": ids, "mask": mask, "tokens": None, "pooled": None}
    return generator.model(x, torch.tensor([500.0]), inputs)


def row_id(row: Row) -> str:
    return f"{row.network}-{row.part}-{row.fusion}-{row.dims}D"


@pytest.mark.parametrize("row", [row for row in DIFFUSION if row.supported], ids=row_id)
def test_a_supported_part_changes_the_output_and_learns(row: Row) -> None:
    generator = build(row)
    require_support(row.family, row.network, row.part, row.fusion, row.dims)
    factual = predict(generator, FACTUAL, row.dims)
    changed = predict(generator, CHANGED[row.part], row.dims)
    assert (factual - changed).abs().max() > 1e-4
    generator.model.zero_grad()
    factual.square().mean().backward()
    part = "denoiser.unet.down_blocks.0.attentions" if row.network == "exportable" else WEIGHTS[row.part, row.fusion]
    gradients = {name: p.grad for name, p in generator.model.named_parameters() if part in name}
    assert gradients and any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("row", [row for row in DIFFUSION if not row.supported], ids=row_id)
def test_what_is_not_supported_gives_one_sentence(row: Row) -> None:
    with pytest.raises(UserError, match=r"is not supported .*use the native network"):
        require_support(row.family, row.network, row.part, row.fusion, row.dims)


def test_the_documentation_shows_the_table() -> None:
    assert as_markdown() in DOCS.read_text(encoding="utf-8")
