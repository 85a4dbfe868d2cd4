"""A generator on disk: a folder a component, safetensors and JSON, in the diffusers layout where a class exists."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.files import read_json, write_json
from medloom.core.mask_spec import MaskSpec
from medloom.core.spec import ImageSpec
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import load_text_parts

if TYPE_CHECKING:
    from medloom.generators.base import ImageGenerator

SETTINGS = "generator.json"


def save_generator(generator: "ImageGenerator[Any, Any]", folder: Path) -> None:
    """Write all components to `folder`."""
    model = generator.model
    model.text.save(folder / "tokenizer", folder / "text_encoder")
    if model.condition is not None:
        model.condition.save_pretrained(folder / "condition")
    settings = {
        "family": generator.family,
        "spec": generator.spec.to_dict(),
        "modality_as": generator.modality_as,
        "train_text": generator.train_text,
        "max_tokens": model.text.max_tokens,
        "pad": model.text.pad,
        "mask_classes": list(model.mask_classes),
        "masks": generator.masks.to_dict(),
        "reads_text": generator.reads_text,
        "exportable": generator.exportable,
        **generator.save_components(folder),
    }
    write_json(folder / SETTINGS, settings)


def load_generator(folder: Path) -> "ImageGenerator[Any, Any]":
    """Read what `save_generator` wrote; networks are in evaluation mode, on the CPU.

    Raises:
        UserError: a component is missing or cut short.
    """
    from safetensors import SafetensorError

    from medloom.generators.registry import get_generator_family

    settings = read_json(folder / SETTINGS)
    text = load_text_parts(
        str(folder / "text_encoder"), str(folder / "tokenizer"), settings["max_tokens"], settings["pad"]
    )
    try:
        condition = None if settings["exportable"] else ConditionEncoder.from_pretrained(folder / "condition")
        kind: type[ImageGenerator[Any, Any]] = get_generator_family(settings["family"]).generator()
        spec = ImageSpec.from_dict(settings["spec"])
        generator = kind.from_components(folder, settings, spec, text, condition)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {folder} cannot be loaded ({reason}): it was cut short or changed.") from error
    generator.model.eval()
    generator.reads_text = settings["reads_text"]
    generator.masks = MaskSpec.from_dict(settings["masks"])
    generator.folder = folder
    return generator
