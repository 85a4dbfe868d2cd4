"""The one command. Its table names recipes as strings, so that help imports nothing heavy."""

import importlib
import os
import sys
from collections.abc import Sequence

from medloom import __version__
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean

# Words of the command -> (module with `Config` and `run`, one line of help).
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "medloom.recipes.demo",
        "make a virtual cohort, train on it, ask what if, and check the answers against the truth",
    ),
    "data check": ("medloom.recipes.data_check", "say what is in a manifest and what is wrong with it"),
    "data phantom": ("medloom.recipes.data_phantom", "make a virtual cohort whose true counterfactuals are known"),
    "data split": ("medloom.recipes.data_split", "split a manifest by patient into train, validation and test"),
    "data prompts": ("medloom.recipes.data_prompts", "word a clinical table: a text for each row, by a template"),
    "data journeys": ("medloom.recipes.data_journeys", "pair a patient's images over time, with what changed"),
    "data import mimic-cxr": ("medloom.recipes.data_import_mimic_cxr", "make a manifest of MIMIC-CXR or MIMIC-CXR-JPG"),
    "data import openi": ("medloom.recipes.data_import_openi", "make a manifest of the Open-i chest X-ray reports"),
    "data import covid-cxr": ("medloom.recipes.data_import_covid_cxr", "make a manifest of covid-chestxray-dataset"),
    "train autoencoder": ("medloom.recipes.autoencoder", "train an image autoencoder for latent diffusion"),
    "train text-encoder": ("medloom.recipes.text_encoder", "train a text encoder on pairs of images and texts"),
    "train text2image": ("medloom.recipes.text2image", "train a text-to-image generator"),
    "train edit": ("medloom.recipes.editor", "train an editor of earlier images by instruction"),
    "train mask2image": ("medloom.recipes.mask2image", "train a generator that makes images of masks, 2-D and 3-D"),
    "train mask2image-gan": ("medloom.recipes.mask2image_gan", "train a conditional GAN that makes images of masks"),
    "generate": ("medloom.recipes.generate", "generate images from a prompt or a manifest of conditions"),
    "edit": ("medloom.recipes.edit", "edit a patient's earlier image by an instruction"),
    "whatif": ("medloom.recipes.whatif", "change clinical columns, hold the seed, and see what becomes of the images"),
    "evaluate": ("medloom.recipes.evaluate", "compare synthetic with real images, with intervals and floors"),
    "compare": ("medloom.recipes.compare", "compare two models on the same held-out images, modality by modality"),
}
USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # torchrun takes --n for one of its own options unless `--` stands before the command.
    words = words[1:] if words[:1] == ["--"] else words
    try:
        return _dispatch(words)
    except UserError as error:
        print(f"medloom: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("medloom: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return INTERRUPTED


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"medloom {__version__}")
        return 0
    command, rest = split_command(words)
    _quiet_libraries()
    recipe = importlib.import_module(COMMANDS[command][0])
    from medloom.core.config import parse

    result = recipe.run(parse(recipe.Config, rest, command))
    return result if isinstance(result, int) else 0


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command at the start of the words, and its arguments.

    Raises:
        UserError: no such command; with the closest one.
    """
    for length in (3, 2, 1):
        command = " ".join(words[:length])
        if command in COMMANDS:
            return command, _positional(command, list(words[length:]))
    leading = [word for word in words[:3] if not word.startswith("-")]
    # A group is "data", or "data import" within it; the word after it is the one that is not known.
    depth = 2 if len(leading) > 1 and _group(leading[:2]) else 1
    group = _group(leading[:depth])
    typed = " ".join(leading[: depth + 1])
    with_it = f"; with {' '.join(leading[:depth])!r} go: {', '.join(group)}." if group else ""
    close = did_you_mean(typed, COMMANDS) if len(leading) > depth or not group else ""
    hint = close or with_it or "."
    raise UserError(f"unknown command {typed!r}{hint} See medloom --help.")


def _group(words: Sequence[str]) -> list[str]:
    """The commands that begin with these words and go on."""
    return [name for name in COMMANDS if words and name.startswith(f"{' '.join(words)} ")]


def _positional(command: str, rest: list[str]) -> list[str]:
    """`medloom data check TABLE` names its manifest without an option, `medloom data import SOURCE ROOT` its folder."""
    if command.startswith("data ") and rest and not rest[0].startswith("-"):
        return ["--root" if command.startswith("data import ") else "--data", *rest]
    return rest


def overview() -> str:
    """The help of the command as a whole."""
    width = max(map(len, COMMANDS))
    lines = [f"  medloom {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "medloom: conditional and counterfactual medical image generation. For research only.",
            "",
            *lines,
            "",
            "medloom COMMAND --help shows a command's options with their defaults.",
        ]
    )


def _quiet_libraries() -> None:
    """Libraries' progress bars and advice would stand between the user and our own messages."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


if __name__ == "__main__":
    sys.exit(main())
