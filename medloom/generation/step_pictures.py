"""Pictures of sampling: what a model expects of the first images after each of its steps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.plots import flat
from medloom.core.sheets import Sheet
from medloom.core.tile_texts import MARK, caption_of
from medloom.core.tiles import Tile, TileColumn
from medloom.generation.produce import LoadedModel
from medloom.generation.requests import Request
from medloom.generators.watching import SamplingStep

STEPS = "steps.png"
SHOWN_IMAGES, SHOWN_STEPS = 8, 10


def check_steps(model: LoadedModel) -> None:
    """Refuse pictures of the steps of a model that has none.

    Raises:
        UserError: names the option and the model's family.
    """
    if model.generator.sampling.steps is None:
        raise UserError(
            f"--show-steps: {model.options.model} is of the family {model.generator.family}, which generates an image"
            " in one step; leave it out."
        )


def shown_steps(total: int) -> list[int]:
    """The steps that a strip shows: all, or the first, the last and some evenly between them.

    >>> shown_steps(4), shown_steps(19)
    ([0, 1, 2, 3], [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
    """
    return sorted({round(place) for place in np.linspace(0, total - 1, min(total, SHOWN_STEPS))})


def write_steps(model: LoadedModel, requests: Sequence[Request]) -> None:
    """Write steps.png: a row for each of the first images, the image as the model expects it after each step."""
    first = requests[:SHOWN_IMAGES]
    images: dict[int, list[NDArray[np.float32]]] = {}
    for request in first:
        estimates: dict[int, NDArray[np.float32]] = {}

        def keep(step: SamplingStep, estimates: dict[int, NDArray[np.float32]] = estimates) -> None:
            if step.index in shown_steps(step.total):
                estimates[step.index] = step.estimate()[0].numpy()

        with model.generator.watched(keep):
            model.generator.images(
                [request.condition], [request.seed], model.sampling, model.options.edit, model.options.framing
            )
        for index, image in estimates.items():
            images.setdefault(index, []).append(image)
    columns = [
        TileColumn(f"after step {index + 1}", [Tile(flat(image)) for image in row])
        for index, row in sorted(images.items())
    ]
    labels = [caption_of(request.shown(model.options.with_text), f"seed {request.seed}") for request in first]
    heading = f"{MARK}: what the model expects after each step"
    notes = ["Grey: not yet decoded."] if model.generator.tokenizer is not None else []
    Sheet(heading, columns, labels, notes).save(model.options.out / STEPS)
