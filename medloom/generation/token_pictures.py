"""Pictures of decoding: how tokens are unmasked step by step, and images over steps, temperature and guidance."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError

if TYPE_CHECKING:
    from medloom.generation.requests import Job, Maker

FAMILY = "tokens"
STEPS, GRID = "steps.png", "decoding_grid.png"
SHOWN_IMAGES = 8


def require_tokens_family(maker: "Maker", option: str) -> None:
    """Refuse pictures of decoding for a model that does not decode tokens.

    Raises:
        UserError: names the option and the model's family.
    """
    if maker.generator.family != FAMILY:
        raise UserError(
            f"{option}: {maker.options.model} is of the family {maker.generator.family}; only models of"
            " `medloom train tokens` decode tokens."
        )


def write_steps(maker: "Maker", jobs: "Sequence[Job]") -> None:
    """Write steps.png: a row for each of the first images, what is known after each step, masked tokens in grey."""
    from medloom.core.plots import flat, save_grid

    shown = jobs[:SHOWN_IMAGES]
    seen: list[Any] = []
    drawing = replace(maker.drawing, callback=lambda step: seen.append(known(maker.generator, step.after)))
    drawing.arrays([job.condition for job in shown], [job.seed for job in shown])
    columns = len(seen)
    tiles = [flat(seen[step][row]) for row in range(len(shown)) for step in range(columns)]
    note = f"{columns} steps of decoding from left to right"
    save_grid(maker.options.out / STEPS, tiles, columns, note)


def known(generator: Any, tokens: Any) -> Any:
    """Images `(N, C, *size)` in [-1, 1] of tokens int64 `(N, L)`, grey where they are masked."""
    from torch.nn.functional import interpolate

    masked = (tokens == generator.tokeniser.codes).reshape(-1, 1, *generator.grid).float()
    grey = interpolate(masked, size=generator.spec.size, mode="nearest").bool()
    return generator.images_of(tokens).clamp(-1, 1).float().masked_fill(grey, 0.0).cpu().numpy()


def write_decoding_grid(
    maker: "Maker", job: "Job", steps: Sequence[int], temperatures: Sequence[float], guidances: Sequence[float]
) -> None:
    """Write decoding_grid.png: the first image by steps (down), temperature and guidance (across)."""
    from medloom.core.files import atomic_file
    from medloom.generation.difference_maps import draw_labelled

    images = {}
    for count, temperature, scale in product(steps, temperatures, guidances):
        options = replace(maker.options, steps=count, temperature=temperature, guidance=scale)
        one = replace(maker, options=options)
        maker.generator.check_sampling(one.sampling)
        label = (f"K {count}", f"T {temperature:g}, guidance {scale:g}")
        images[label] = one.drawing.arrays([job.condition], [job.seed])[0]
    with atomic_file(maker.options.out / GRID) as temporary:
        temporary.write_bytes(draw_labelled(images, "SYNTHETIC: steps, temperature and guidance of decoding"))
