"""A token generator on disk: a folder a component."""

from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import read_json, write_json
from medloom.core.mask_spec import MaskSpec
from medloom.core.spec import ImageSpec
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.model import TokenModel
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import load_text_parts
from medloom.networks.token_transformer import TokenTransformer
from medloom.networks.tokenizer import load_tokeniser

SETTINGS = "generator.json"
FIRST = "first"


def save_generator(generator: TokenGenerator, folder: Path) -> None:
    """Write all components to `folder`; those of the first stage of two to `first/`."""
    model = generator.model
    model.text.save(folder / "tokenizer", folder / "text_encoder")
    model.condition.save_pretrained(folder / "condition")
    model.network.save_pretrained(folder / "transformer")
    generator.tokeniser.save(folder / "vq")
    if generator.first is not None:
        (folder / FIRST).mkdir()
        save_generator(generator.first, folder / FIRST)
    settings = {
        "spec": generator.spec.to_dict(),
        "modality_as": generator.modality_as,
        "train_text": generator.train_text,
        "max_tokens": model.text.max_tokens,
        "pad": model.text.pad,
        "mask_classes": list(model.mask_classes),
        "masks": generator.masks.to_dict(),
        "reads_text": generator.reads_text,
        "codes": generator.tokeniser.codes,
        "two_stages": generator.first is not None,
    }
    write_json(folder / SETTINGS, settings)


def load_generator(folder: Path) -> TokenGenerator:
    """Read what `save_generator` wrote; networks are in evaluation mode, on the CPU.

    Raises:
        UserError: a component is missing or cut short, or the tokeniser is another one.
    """
    from safetensors import SafetensorError

    settings = read_json(folder / SETTINGS)
    text = load_text_parts(
        str(folder / "text_encoder"), str(folder / "tokenizer"), settings["max_tokens"], settings["pad"]
    )
    try:
        condition = ConditionEncoder.from_pretrained(folder / "condition")
        network = TokenTransformer.from_pretrained(folder / "transformer")
        tokeniser = load_tokeniser(folder / "vq")
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {folder} cannot be loaded ({reason}): it was cut short or changed.") from error
    if tokeniser.codes != network.config.codes:
        raise UserError(
            f"the model in {folder} has a transformer of {network.config.codes} codes and a tokeniser of"
            f" {tokeniser.codes}: one of them was changed."
        )
    generator = TokenGenerator(
        ImageSpec.from_dict(settings["spec"]),
        TokenModel(text, condition, network, settings["mask_classes"]).eval(),
        tokeniser.eval(),
        settings["modality_as"],
        settings["train_text"],
        settings["reads_text"],
        load_generator(folder / FIRST) if settings["two_stages"] else None,
    )
    generator.masks = MaskSpec.from_dict(settings["masks"])
    return generator
