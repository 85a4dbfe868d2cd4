"""Every row of the support table: with random fusion weights the part changes the output and receives gradient."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.seeds import torch_generator
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.generators.diffusion.build import build_generator
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.sampling import FROM_NOISE
from medloom.generators.support import SUPPORT, SupportRow, as_markdown, require_support
from medloom.generators.training_facts import TrainingFacts
from medloom.networks.autoencoder import make_autoencoder

# The rows of the GAN are exercised in test_gan_support.py.
DIFFUSION = [row for row in SUPPORT if row.family == "diffusion"]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "support.md"
COLUMNS = (TableColumn("age", mean=60.0, std=10.0, low=30.0, high=90.0), TableColumn("ward", ("north", "south")))
TABLE = {"age": 50.0, "ward": "north"}
CHANGED = {
    "text": lambda dims: "a large square on the right",
    "modality": lambda dims: "Square",
    "table": lambda dims: {"age": 51.0, "ward": "north"},
    "mask": lambda dims: mask_of(2, dims),
    "prior": lambda dims: prior_of(-1.0, dims),
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


def build(row: SupportRow) -> DiffusionGenerator:
    dims = row.dims
    spec = ImageSpec((8,) * dims, 1, "pad", {name: Intensity("window", GREY, 0, 255) for name in ("Disc", "Square")})
    fusion = row.fusion if row.fusion in ("cross-attention", "affine") else "cross-attention"
    network = DenoiserOptions(
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
    corpus = ["Disc: a disc on the left", "Disc: a large square on the right", "Square: a disc on the left"]
    columns = COLUMNS if row.part == "table" else ()
    masks = MaskSpec(numbered(network.mask_classes))
    facts = TrainingFacts(corpus, ["Disc", "Square"], ["left"], columns, masks)
    generator = build_generator(spec, facts, autoencoder, network, text, NoiseOptions(), seed=0)
    randomise(generator.model)
    return generator


def randomise(module: torch.nn.Module) -> None:
    """Fusions start at zero; a test on zeros would pass whatever they do."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch_generator(name)))


def mask_of(label: int, dims: int) -> np.ndarray:
    """A box of one label."""
    mask = np.zeros((8,) * dims, np.int16)
    mask[2:6, 2:6] = label
    return mask


def prior_of(sign: float, dims: int) -> Image:
    """An image that is bright or dark, and a little brighter along its first axis."""
    slope = np.linspace(0, 10, 8).reshape(1, 8, *(1,) * (dims - 1))
    return Image(np.broadcast_to(127.5 + 64 * sign + slope, (1, *(8,) * dims)).astype(np.float32), GREY, 255.0)


def condition_of(row: SupportRow, **changed: object) -> Condition:
    """A condition with all parts, some changed; a generator reads those that it takes."""
    known = Condition("a disc on the left", "Disc", "left", prior_of(1.0, row.dims), mask_of(1, row.dims), TABLE)
    return replace(known, **changed)


def predict(generator: DiffusionGenerator, condition: Condition) -> Tensor:
    x = torch.randn((1, *generator.latent_shape), generator=torch_generator("x"))
    priors = generator.priors([condition], FROM_NOISE)
    prior = None if priors is None else generator.prior_inputs(generator._stored(priors))
    labels = generator.mask_labels([condition])
    inputs = generator.inputs([condition], frozenset(generator.parts), None, labels, prior)
    ids, mask = generator.model.text.tokenize([f"{condition.modality}: {condition.text}"])
    if generator.modality_as == "text":
        inputs = replace(inputs, text_ids=ids, text_mask=mask, text_embeddings=None, text_pooled=None)
    return generator.model(x, torch.tensor([500.0]), inputs)


def row_id(row: SupportRow) -> str:
    return f"{row.network}-{row.part}-{row.fusion}-{row.dims}D"


@pytest.mark.parametrize("row", [row for row in DIFFUSION if row.supported], ids=row_id)
def test_a_supported_part_changes_the_output_and_learns(row: SupportRow) -> None:
    generator = build(row)
    require_support(row.family, row.network, row.part, row.fusion, row.dims)
    factual = predict(generator, condition_of(row))
    changed = predict(generator, condition_of(row, **{row.part: CHANGED[row.part](row.dims)}))
    assert (factual - changed).abs().max() > 1e-4
    generator.model.zero_grad()
    factual.square().mean().backward()
    part = "denoiser.unet.down_blocks.0.attentions" if row.network == "exportable" else WEIGHTS[row.part, row.fusion]
    gradients = {name: p.grad for name, p in generator.model.named_parameters() if part in name}
    assert gradients and any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("row", [row for row in DIFFUSION if not row.supported], ids=row_id)
def test_what_is_not_supported_gives_one_sentence(row: SupportRow) -> None:
    with pytest.raises(UserError, match=r"is not supported .*use the native network"):
        require_support(row.family, row.network, row.part, row.fusion, row.dims)


def test_the_documentation_shows_the_table() -> None:
    assert as_markdown() in DOCS.read_text(encoding="utf-8")
