"""The commands: what the user types, and the recipe behind it, as strings, so that help imports nothing heavy."""

from pathlib import Path
from typing import Any

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
    "train tokens": ("medloom.recipes.tokens", "train a generator that decodes an image's tokens in a few steps"),
    "train mask2image": ("medloom.recipes.mask2image", "train a generator that makes images of masks, 2-D and 3-D"),
    "train mask2image-gan": ("medloom.recipes.mask2image_gan", "train a conditional GAN that makes images of masks"),
    "generate": ("medloom.recipes.generate", "generate images from a prompt or a manifest of conditions"),
    "edit": ("medloom.recipes.edit", "edit a patient's earlier image by an instruction"),
    "whatif": ("medloom.recipes.whatif", "change clinical columns, hold the seed, and see what becomes of the images"),
    "evaluate images": (
        "medloom.recipes.evaluate_images",
        "compare synthetic with real images, with intervals and real-vs-real references",
    ),
    "evaluate whatif": ("medloom.recipes.evaluate_whatif", "measure what the changes of a what-if do to the images"),
    "evaluate edits": ("medloom.recipes.evaluate_edits", "measure what edits of prior images keep and change"),
    "ablate": (
        "medloom.recipes.ablate",
        "run a chain of commands over a grid of options, with one table of the metrics",
    ),
    "compare": ("medloom.recipes.compare", "compare two models on the same held-out images, modality by modality"),
}


def run_command(name: str, /, **options: Any) -> Path:
    """Run a command from Python, as the command line would; returns what its recipe returns.

    Args:
        name: of COMMANDS.
        options: of the command, by name; see `medloom.core.config.configure`.

    Raises:
        UserError: no such command, or what the command refuses.
    """
    from importlib import import_module

    from medloom.core.config import configure
    from medloom.core.lookup import look_up

    recipe = import_module(look_up(COMMANDS, name, "command")[0])
    path: Path = recipe.run(configure(recipe.Config, **options))
    return path
