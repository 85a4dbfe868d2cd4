"""The families of generators by name, and how each is loaded from a run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from medloom.generators.base import ConditionedGenerator
from medloom.generators.diffusion.generator import SamplingOptions as DiffusionSampling
from medloom.generators.diffusion.storage import load_generator as load_diffusion
from medloom.generators.gan.generator import SamplingOptions as GANSampling
from medloom.generators.gan.storage import load_generator as load_gan
from medloom.generators.run_folder import RunFolder, open_run
from medloom.generators.tokens.options import SamplingOptions as TokenSampling
from medloom.generators.tokens.storage import load_generator as load_tokens

FAMILIES: dict[str, Callable[[Path], ConditionedGenerator]] = {
    "diffusion": load_diffusion,
    "gan": load_gan,
    "tokens": load_tokens,
}
# What each family takes for sampling; what is not given has the family's default.
SAMPLING: dict[str, type[Any]] = {"diffusion": DiffusionSampling, "gan": GANSampling, "tokens": TokenSampling}


def load_run(path: Path, option: str = "--model") -> tuple[RunFolder, Any]:
    """Open a run folder and load its generator.

    Raises:
        UserError: not a run folder of a generator, or one cut short.
    """
    run = open_run(path, tuple(FAMILIES), option)
    return run, FAMILIES[run.index()["family"]](run.model)
