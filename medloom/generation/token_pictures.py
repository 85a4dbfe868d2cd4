"""Pictures of decoding: how tokens are unmasked step by step, and images over steps, temperature and guidance."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from medloom.core.errors import UserError
from medloom.core.plots import flat
from medloom.core.sheets import Sheet
from medloom.core.tile_texts import MARK, caption_of
from medloom.core.tiles import Tile, TileColumn
from medloom.generation.difference_maps import labelled_sheet
from medloom.generation.produce import LoadedModel
from medloom.generation.requests import Request
from medloom.generators.sampling import TokenSampling
from medloom.generators.tokens.generator import TokenGenerator
from medloom.processes.token_decoding import TokenStep

STEPS, GRID = "steps.png", "decoding_grid.png"
SHOWN_IMAGES = 8


def token_generator(model: LoadedModel, option: str) -> TokenGenerator:
    """The model, where it decodes tokens.

    Raises:
        UserError: names the option and the model's family.
    """
    generator = model.generator
    if not isinstance(generator, TokenGenerator):
        raise UserError(
            f"{option}: {model.options.model} is of the family {generator.family}; only models of"
            " `medloom train tokens` decode tokens."
        )
    return generator


def write_steps(model: LoadedModel, requests: Sequence[Request]) -> None:
    """Write steps.png: a row for each of the first images, what is known after each step, masked tokens in grey."""
    generator, first = token_generator(model, "--show-steps"), requests[:SHOWN_IMAGES]
    known: list[NDArray[np.float32]] = []

    def keep(step: TokenStep) -> None:
        known.append(known_images(generator, step.after))

    conditions, seeds = [request.condition for request in first], [request.seed for request in first]
    generator.sample(conditions, seeds, _sampling(model), callback=keep)
    columns = [
        TileColumn(f"after step {step}", [Tile(flat(image)) for image in images])
        for step, images in enumerate(known, 1)
    ]
    labels = [caption_of(request.shown(model.options.with_text), f"seed {request.seed}") for request in first]
    heading = f"{MARK}: what is known after each step of decoding"
    Sheet(heading, columns, labels, ["Grey: not yet decoded."]).save(model.options.out / STEPS)


def known_images(generator: TokenGenerator, tokens: Tensor) -> NDArray[np.float32]:
    """Images `(N, C, *size)` in [-1, 1] of tokens int64 `(N, L)`, grey where they are masked."""
    masked = (tokens == generator.tokenizer.codes).reshape(-1, 1, *generator.grid).float()
    grey = interpolate(masked, size=generator.spec.size, mode="nearest").bool()
    images: NDArray[np.float32] = generator.images_of(tokens).clamp(-1, 1).float().masked_fill(grey, 0.0).cpu().numpy()
    return images


def decoding_options(model: LoadedModel, grid: Mapping[str, Sequence[float]]) -> list[TokenSampling]:
    """The options of each image of --grid: by steps, temperature and guidance.

    Raises:
        UserError: options that the model cannot follow.
    """
    generator, sampling, found = token_generator(model, "--grid"), _sampling(model), []
    temperatures, guidances = grid.get("temperature", [sampling.temperature]), grid.get("guidance", [sampling.guidance])
    for count, temperature, guidance in product(grid["steps"], temperatures, guidances):
        found.append(replace(sampling, steps=int(count), temperature=temperature, guidance=guidance))
        generator.check_sampling(found[-1])
    return found


@torch.no_grad()
def write_decoding_grid(model: LoadedModel, request: Request, grid: Mapping[str, Sequence[float]]) -> None:
    """Write decoding_grid.png: the first image by steps (down), temperature and guidance (across)."""
    generator, images = token_generator(model, "--grid"), {}
    for one in decoding_options(model, grid):
        label = (f"steps: {one.steps}", f"temperature {one.temperature:g}, guidance {one.guidance:g}")
        images[label] = generator.sample([request.condition], [request.seed], one)[0].numpy()
    heading = f"{MARK}: the first image by steps, temperature and guidance of decoding"
    labelled_sheet(images, heading, [caption_of(request.shown(model.options.with_text), f"seed {request.seed}")]).save(
        model.options.out / GRID
    )


def _sampling(model: LoadedModel) -> TokenSampling:
    sampling = model.sampling
    if not isinstance(sampling, TokenSampling):
        raise TypeError("the sampling options of a token generator")
    return sampling
