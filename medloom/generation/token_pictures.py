"""Pictures of decoding: images over steps, temperature and guidance."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import torch

from medloom.core.errors import UserError
from medloom.core.tile_texts import MARK, caption_of
from medloom.generation.difference_maps import labelled_sheet
from medloom.generation.produce import LoadedModel
from medloom.generation.requests import Request
from medloom.generators.sampling import TokenSampling
from medloom.generators.tokens.generator import TokenGenerator

GRID = "decoding_grid.png"


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
