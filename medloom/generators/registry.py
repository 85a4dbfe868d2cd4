"""The families of generators by name, and how each is loaded from a run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.storage import load_generator as load_diffusion
from medloom.generators.run_folder import RunFolder, open_run

FAMILIES: dict[str, Callable[[Path], DiffusionGenerator]] = {"diffusion": load_diffusion}


def load_run(path: Path, option: str = "--model") -> tuple[RunFolder, Any]:
    """Open a run folder and load its generator.

    Raises:
        UserError: not a run folder of a generator, or one cut short.
    """
    run = open_run(path, tuple(FAMILIES), option)
    return run, FAMILIES[run.index()["family"]](run.model)
