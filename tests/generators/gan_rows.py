"""Tiny GANs and data in memory, for the tests of the family."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.seeds import numpy_generator, torch_generator
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.generators.gan.build import build_adversary, build_generator, build_inverse
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.objective import GANObjective
from medloom.generators.gan.options import GANOptions, ImageNetworkOptions
from medloom.generators.gan.pairing import Paired, Unpaired
from medloom.generators.gan.task import GANTask
from medloom.generators.options import TextOptions
from medloom.generators.row_caches import token_ids
from medloom.generators.training_data import TrainingData, all_prompts
from medloom.generators.training_facts import TrainingFacts
from medloom.training.options import LoopOptions

CPU = torch.device("cpu")
# The least that leaves a patch at two scales.
SIZE = 12
COLUMNS = (TableColumn("age", mean=60.0, std=10.0, low=30.0, high=90.0), TableColumn("ward", ("north", "south")))
KINDS = ("Disc", "Square")
NETWORK = ImageNetworkOptions(
    widths=(8, 16), blocks=1, attention=(False, True), head_width=8, style=4, region_styles=2, condition_width=16
)
TEXT = TextOptions(width=16, layers=1, vocabulary=600, max_tokens=24, dropout=0.0)
GAN = GANOptions(width=4, layers=1, scales=2, pool=3, r1_every=2)
LOOP = LoopOptions(
    steps=2, batch=2, learning_rate=2e-3, warmup=0, weight_decay=0.0, precision="fp32", log_every=1, validate_every=100
)


def spec_of(dims: int = 2, size: int = SIZE) -> ImageSpec:
    return ImageSpec((size,) * dims, 1, "pad", {name: Intensity("window", GREY, 0, 255) for name in KINDS})


def rows_of(count: int, dims: int = 2, size: int = SIZE) -> list[Condition]:
    maps = label_maps(count, dims, size)
    return [
        Condition(
            f"a {KINDS[row % 2].lower()} number {row}",
            KINDS[row % 2],
            "left",
            mask=maps[row],
            table={"age": 40.0 + row, "ward": ("north", "south")[row % 2]},
        )
        for row in range(count)
    ]


def label_maps(count: int, dims: int = 2, size: int = SIZE) -> np.ndarray:
    """A box of label 1 or 2 somewhere in each map; even rows have 1, odd ones 2."""
    random = numpy_generator("boxes", dims, size)
    maps = np.zeros((count, *(size,) * dims), np.int16)
    for row, labels in enumerate(maps):
        first = random.integers(0, size // 2, dims)
        labels[tuple(slice(start, start + size // 2) for start in first)] = 1 + row % 2
    return maps


def images_of(labels: np.ndarray) -> np.ndarray:
    """Images whose levels are those of the labels: -0.8, 0.6 and 0."""
    return np.choose(labels, [-0.8, 0.6, 0.0]).astype(np.float32)[:, None]


def generator_of(
    fusion: str = "affine",
    network: ImageNetworkOptions = NETWORK,
    text: TextOptions = TEXT,
    dims: int = 2,
    size: int = SIZE,
    **facts: Any,
) -> GANGenerator:
    corpus = [f"{condition.modality}: {condition.text}" for condition in rows_of(8)]
    columns: Sequence[TableColumn] = facts.pop("columns", COLUMNS if fusion != "none" else ())
    known = TrainingFacts(corpus, KINDS, ["left"], columns, MaskSpec(numbered((1, 2))), **facts)
    return build_generator(spec_of(dims, size), known, replace(network, fusion=fusion), text, seed=0)


def data_of(generator: GANGenerator, count: int = 8) -> TrainingData:
    spec = generator.spec
    conditions = rows_of(count, spec.spatial_dims, spec.size[0])
    labels = label_maps(count, spec.spatial_dims, spec.size[0])
    prompts = all_prompts(conditions, generator.modality_as, generator.parts)
    texts = token_ids(generator.model.text, prompts, verbose=False)
    cells = generator.model.condition.cells([condition.table for condition in conditions])
    return TrainingData(images_of(labels), range(count), conditions, texts, labels, cells)


def task_of(
    generator: GANGenerator, gan: GANOptions = GAN, loop: LoopOptions = LOOP, data: TrainingData | None = None
) -> GANTask:
    objective = GANObjective(gan, build_adversary(generator, gan, 0, CPU))
    pairing = Paired(generator, 0)
    if gan.unpaired:
        pairing = Unpaired(generator, 0, build_inverse(generator, NETWORK, 0))
    data = data or data_of(generator)
    held_out = replace(data, usable=data.usable[:2])
    return GANTask(generator, pairing, objective, data, held_out, loop, 0.0, CPU, lambda *_: None)


def randomise(module: torch.nn.Module) -> None:
    """Fusions start at zero; a test on zeros would pass whatever they do."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch_generator(name)))
