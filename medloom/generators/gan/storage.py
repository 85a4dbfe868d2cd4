"""A GAN generator on disk: a folder a component, safetensors and JSON."""

import json
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.core.mask_spec import MaskSpec
from medloom.core.spec import ImageSpec
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.model import GANModel
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.gan_generators import ImageNetwork, load_image_network
from medloom.networks.text import load_text_parts

SETTINGS = "generator.json"
NETWORK = "network"


def save_generator(generator: GANGenerator, folder: Path) -> None:
    """Write all components to `folder`."""
    model = generator.model
    if model.condition is None:
        raise TypeError("a GAN always has a condition encoder")
    model.text.save(folder / "tokenizer", folder / "text_encoder")
    model.condition.save_pretrained(folder / "condition")
    model.network.save_pretrained(folder / NETWORK)
    settings = {
        "spec": generator.spec.to_dict(),
        "modality_as": generator.modality_as,
        "train_text": generator.train_text,
        "max_tokens": model.text.max_tokens,
        "pad": model.text.pad,
        "mask_classes": list(model.mask_classes),
        "masks": generator.masks.to_dict(),
        "reads_text": generator.reads_text,
        "needs_mask": generator.needs_mask,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_generator(folder: Path) -> GANGenerator:
    """Read what `save_generator` wrote; networks are in evaluation mode, on the CPU.

    Raises:
        UserError: a component is missing or cut short.
    """
    settings = read_json(folder / SETTINGS)
    text = load_text_parts(
        str(folder / "text_encoder"), str(folder / "tokenizer"), settings["max_tokens"], settings["pad"]
    )
    condition, network = _load_networks(folder)
    generator = GANGenerator(
        ImageSpec.from_dict(settings["spec"]),
        GANModel(text, condition, network, settings["mask_classes"]).eval(),
        settings["modality_as"],
        settings["train_text"],
        settings["reads_text"],
        settings["needs_mask"],
    )
    generator.masks = MaskSpec.from_dict(settings["masks"])
    return generator


def _load_networks(folder: Path) -> tuple[ConditionEncoder, ImageNetwork]:
    from safetensors import SafetensorError

    try:
        return ConditionEncoder.from_pretrained(folder / "condition"), load_image_network(folder / NETWORK)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {folder} cannot be loaded ({reason}): it was cut short or changed.") from error
