"""Small token generators, and rows to train them on."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medloom.core.image import Image
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.seeds import initial_weights, torch_generator
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.generators.options import TextOptions
from medloom.generators.row_caches import token_ids
from medloom.generators.tokens.build import build_generator
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.options import TransformerOptions
from medloom.generators.tokens.task import TokenTask
from medloom.generators.training_data import PriorData, TrainingData, all_prompts
from medloom.generators.training_facts import TrainingFacts
from medloom.networks.tokenizer import Tokenizer, TokenizerConfig
from medloom.training.options import LoopOptions

CODES, SIZE = 16, 16
COLUMNS = (TableColumn("age", mean=60.0, std=10.0, low=30.0, high=90.0), TableColumn("ward", ("north", "south")))
LOOP = LoopOptions(steps=2, batch=4, precision="fp32", log_every=1, validate_every=2, checkpoint_every=2, warmup=0)
TEXT = TextOptions(width=16, layers=1, vocabulary=600, max_tokens=24, modality_as="token")
NETWORK = TransformerOptions(width=32, layers=2, heads=2, condition_width=16)


def spec_of(dims: int, size: int = SIZE) -> ImageSpec:
    intensity = {name: Intensity("window", GREY, 0, 255) for name in ("Disc", "Square")}
    return ImageSpec((size,) * dims, 1, "pad", intensity)


def tokenizer_of(dims: int, levels: int = 3, quantizer: str = "ema") -> Tokenizer:
    """Four pixels of an axis a token, with three levels."""
    with initial_weights(0):
        config = TokenizerConfig(dims, 1, (8,) * levels, 1, quantizer, CODES, 4, (4, 4) if quantizer == "fsq" else ())
        tokenizer = Tokenizer(replace(config, code_width=2) if quantizer == "fsq" else config)
    return tokenizer.eval()


def generator_of(
    dims: int = 2,
    network: TransformerOptions = NETWORK,
    text: TextOptions = TEXT,
    columns: tuple[TableColumn, ...] = (),
    first: TokenGenerator | None = None,
    size: int = SIZE,
) -> TokenGenerator:
    corpus = ["Disc: a disc on the left", "Square: a large square on the right"]
    masks = MaskSpec(numbered(network.mask_classes))
    facts = TrainingFacts(corpus, ["Disc", "Square"], ["left"], columns, masks)
    return build_generator(spec_of(dims, size), facts, tokenizer_of(dims), network, text, 0, first)


def randomise(module: torch.nn.Module) -> None:
    """What starts at zero would make every test of what is told pass."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch_generator(name)))


def mask_of(label: int, dims: int = 2) -> np.ndarray:
    """A box of one label."""
    mask = np.zeros((SIZE,) * dims, np.int16)
    mask[4:12, 4:12] = label
    return mask


def prior_of(seed: int, dims: int = 2) -> Image:
    """An image that takes different tokens, another one for each seed."""
    levels = np.random.default_rng(seed).uniform(0, 255, (1, *(SIZE,) * dims))
    return Image(levels.astype(np.float32), GREY, 255.0)


def factual(dims: int = 2) -> Condition:
    """A condition with all parts; a generator reads those that it takes."""
    table = {"age": 50.0, "ward": "north"}
    return Condition("a disc on the left", "Disc", "left", prior_of(7, dims), mask_of(1, dims), table)


def data_of(generator: TokenGenerator, rows: int = 8) -> TrainingData:
    """Rows of random tokens."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CODES, (rows, 1, *generator.grid)).astype(np.int32)
    texts = ["a disc on the left", "a large square on the right"]
    conditions = [
        replace(
            factual(generator.spec.spatial_dims),
            text=texts[row % 2],
            modality=("Disc", "Square")[row % 2],
            table={"age": 40.0 + row, "ward": "north"},
        )
        for row in range(rows)
    ]
    prompts = all_prompts(conditions, generator.modality_as, generator.parts)
    labels = None
    if generator.model.mask_classes:
        labels = rng.integers(0, 3, (rows, *generator.spec.size)).astype(np.int16)
    cells = generator.model.condition.cells([c.table for c in conditions]) if generator.columns else None
    priors = PriorData([targets[::-1].copy()], range(rows)) if generator.model.prior_channels else None
    ids = token_ids(generator.model.text, prompts, False)
    return TrainingData(targets, range(rows), conditions, ids, labels, cells, priors=priors)


def task_of(generator: TokenGenerator, loop: LoopOptions = LOOP, **named: Any) -> TokenTask:
    data = data_of(generator)
    render = lambda generator, out, step: None  # noqa: E731
    return TokenTask(generator, data, data, loop, 0.1, torch.device("cpu"), render, **named)
