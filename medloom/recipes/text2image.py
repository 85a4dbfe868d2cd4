"""`medloom train text2image`: from a table of images and texts to a generator."""

from dataclasses import dataclass
from pathlib import Path

from medloom.generators.preparation import refuse_prior
from medloom.recipes.diffusion_run import DiffusionOptions, train_diffusion

NEED = ("path", "text")


@dataclass(frozen=True, kw_only=True)
class Config(DiffusionOptions):
    """Train a text-to-image diffusion generator.

    Attributes:
        data: manifest with path, Text and modality.
        preset: a published system's settings: minim, minim-predecessor.
    """


def run(config: Config) -> Path:
    """Train; returns the run folder.

    Raises:
        UserError: see `train_diffusion`; or an earlier image in the condition.
    """
    refuse_prior(config.network)
    return train_diffusion(config, NEED, "medloom generate --model {} --out DIR --prompt ...")
