"""The families of models. A row here and a folder are all that a family is."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.lookup import look_up

if TYPE_CHECKING:
    from medloom.generators.base import ImageGenerator
    from medloom.generators.family import Family
    from medloom.generators.generator_family import GeneratorFamily
    from medloom.generators.options import TrainOptions

# Name -> module and class, as text so that help imports no torch, or a Family itself.
FAMILIES: "dict[str, str | Family[Any, Any]]" = {
    "diffusion": "medloom.generators.diffusion.family:DiffusionFamily",
    "gan": "medloom.generators.gan.family:GANFamily",
    "tokens": "medloom.generators.tokens.family:TokenFamily",
    "autoencoder": "medloom.generators.autoencoder.family:AutoencoderFamily",
    "text-encoder": "medloom.generators.contrastive.family:TextEncoderFamily",
}


def get_family(name: str) -> "Family[Any, Any]":
    """The family called `name`.

    Raises:
        UserError: there is none; with the closest one.
    """
    row = look_up(FAMILIES, name, "family")
    if not isinstance(row, str):
        return row
    module, _, kind = row.partition(":")
    found: Family[Any, Any] = getattr(import_module(module), kind)()
    return found


def get_generator_family(name: str) -> "GeneratorFamily[Any, Any]":
    """The family called `name`, where it generates images.

    Raises:
        UserError: there is none; with the closest one.
    """
    from medloom.generators.generator_family import GeneratorFamily

    family = get_family(name)
    if not isinstance(family, GeneratorFamily):
        raise UserError(f"the family {name} generates no images; known: {', '.join(generator_families())}.")
    return family


def family_of(options: "TrainOptions") -> "Family[Any, Any]":
    """The family that options are of."""
    return get_family(options.family)


def training_tasks() -> "dict[str, type[TrainOptions]]":
    """Name of each `medloom train` command -> its options, over all families."""
    return {task: options for name in FAMILIES for task, options in get_family(name).tasks.items()}


def generator_families() -> tuple[str, ...]:
    """Names of the families that generate images."""
    from medloom.generators.generator_family import GeneratorFamily

    return tuple(name for name in FAMILIES if isinstance(get_family(name), GeneratorFamily))


def load(path: Path | str, device: str = "auto", unit: str | None = None) -> "ImageGenerator[Any, Any]":
    """Load a trained generator of any family.

    Args:
        path: run folder that `medloom train` wrote.
        device: auto (a GPU where there is one), cpu or cuda.
        unit: of the values of mask and prior files that do not state theirs.

    Raises:
        UserError: not a run folder of a generator, or one cut short.

    Example:
        >>> import medloom
        >>> model = medloom.load("runs/mm")  # doctest: +SKIP
        >>> images = model.generate(medloom.Condition("Small left effusion.", "CXR"), seeds=range(8))  # doctest: +SKIP
    """
    import torch

    from medloom.generators.run_folder import open_run
    from medloom.generators.storage import load_generator
    from medloom.training.loop import check_device

    check_device(device)
    run = open_run(Path(path), generator_families())
    generator = load_generator(run.model)
    generator.unit = unit
    return generator.to("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
