"""The families of models. A folder and a row here are all that a family is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from medloom.core.lookup import look_up

if TYPE_CHECKING:
    from medloom.generators.family import Family
    from medloom.generators.options import TrainOptions


class FamilyRow(NamedTuple):
    """A family of models; modules are named as text, `package.module:Name`, so that help imports no torch.

    Attributes:
        family: the Family class.
        tasks: the options of each of its `medloom train` commands.
    """

    family: "str | type[Family[Any, Any]]"
    tasks: "tuple[str | type[TrainOptions], ...]"


def _row(folder: str, family: str, *tasks: str) -> FamilyRow:
    package = f"medloom.generators.{folder}"
    return FamilyRow(f"{package}.family:{family}", tuple(f"{package}.options:{task}" for task in tasks))


FAMILIES: dict[str, FamilyRow] = {
    "diffusion": _row("diffusion", "DiffusionFamily", "TextToImage", "MaskToImage", "EditImage"),
    "gan": _row("gan", "GANFamily", "MaskToImageGAN"),
    "tokens": _row("tokens", "TokenFamily", "GenerateTokens"),
    "autoencoder": _row("autoencoder", "AutoencoderFamily", "EncodeImages"),
    "text-encoder": _row("contrastive", "TextEncoderFamily", "EncodeTexts"),
}


def get_family(name: str) -> "Family[Any, Any]":
    """The family called `name`.

    Raises:
        UserError: there is none; with the closest one.
    """
    found: Family[Any, Any] = _named(look_up(FAMILIES, name, "family").family)()
    return found


def training_tasks() -> "dict[str, type[TrainOptions]]":
    """Name of each `medloom train` command -> its options, over all families."""
    options = [_named(task) for row in FAMILIES.values() for task in row.tasks]
    return {each.task: each for each in options}


def _named(entry: Any) -> Any:
    """What a row names."""
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
