"""The families of models. A row here and a folder are all that a family is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medloom.core.lookup import look_up

if TYPE_CHECKING:
    from medloom.generators.family import Family
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


def family_of(options: "TrainOptions") -> "Family[Any, Any]":
    """The family that options are of."""
    return get_family(options.family)


def training_tasks() -> "dict[str, type[TrainOptions]]":
    """Name of each `medloom train` command -> its options, over all families."""
    return {task: options for name in FAMILIES for task, options in get_family(name).tasks.items()}


def generator_families() -> tuple[str, ...]:
    """Names of the families that generate images."""
    return tuple(name for name in FAMILIES if get_family(name).generates_images)
