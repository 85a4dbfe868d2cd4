"""Continuing from a trained generator with an extended manifest: new modalities and views are added to it."""

from collections.abc import Sequence

from medloom.core.spec import ImageSpec
from medloom.generators.diffusion.generator import DiffusionGenerator


def extend_generator(
    generator: DiffusionGenerator, spec: ImageSpec, modalities: Sequence[str], views: Sequence[str]
) -> DiffusionGenerator:
    """The generator with further modalities; what it knew keeps its weights.

    Args:
        generator: as trained.
        spec: its image space with the new modalities' intensity maps.
        modalities: all modalities of the new manifest.
        views: all views of the new manifest.
    """
    if generator.model.condition is not None:
        generator.model.condition = generator.model.condition.extended(modalities, views)
    generator.spec = spec
    return generator
