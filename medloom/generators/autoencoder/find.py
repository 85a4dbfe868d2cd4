"""Autoencoders and tokenizers that other runs build on: found in run folders or diffusers folders, and checked."""

from dataclasses import replace
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.core.spec import ImageSpec
from medloom.generators.autoencoder.options import KL, VQ
from medloom.generators.autoencoder.quality import Autoencoder
from medloom.generators.autoencoder.storage import VAE, kind_of, load_spec, vae_folder, vq_folder
from medloom.generators.leakage import refuse_seen_parent
from medloom.generators.preparation import Prepared
from medloom.generators.run_folder import find_run, open_run
from medloom.networks.autoencoder import KLAutoencoder, load_autoencoder
from medloom.networks.tokenizer import Tokenizer, load_tokenizer


def load_trained(model: Path) -> Autoencoder:
    """The autoencoder or tokenizer of a run's folder `model/`."""
    return load_tokenizer(model / VQ) if kind_of(model) == VQ else load_autoencoder(model / VAE)


def known_space(folder: Path | str | None, option: str) -> ImageSpec | None:
    """The image space of an autoencoder's run; None of a diffusers folder, which does not say it, and of none."""
    if folder is None or find_run(Path(folder)) is None:
        return None
    return load_spec(open_run(Path(folder), ("autoencoder",), option).model)


def find_autoencoder(path: Path, prepared: Prepared) -> KLAutoencoder:
    """The autoencoder for a latent generator of some data.

    Args:
        path: a run folder of `medloom train autoencoder`, or a diffusers folder with an AutoencoderKL.
        prepared: the generator's data.

    Raises:
        UserError: there is none, it was trained in another image space, or on patients of the data's test set.
    """
    if find_run(path) is None:
        return load_autoencoder(vae_folder(path, "--autoencoder"))
    found = open_run(path, ("autoencoder",), "--autoencoder")
    if kind_of(found.model) != KL:
        raise UserError(
            f"--autoencoder {path} gives tokens, for `medloom train tokens`; latent diffusion takes --kind kl."
        )
    _require_space(load_spec(found.model), prepared, path)
    refuse_seen_parent(found, prepared, "autoencoder")
    return load_autoencoder(found.model / VAE)


def find_tokenizer(path: Path, prepared: Prepared) -> Tokenizer:
    """The tokenizer for a token generator of some data.

    Args:
        path: a run folder of `medloom train autoencoder --kind vq`, or a diffusers folder with a VQModel.
        prepared: the generator's data.

    Raises:
        UserError: there is none, it was trained in another image space, or on patients of the data's test set.
    """
    if find_run(path) is None:
        return load_tokenizer(vq_folder(path, "--tokenizer"))
    found = open_run(path, ("autoencoder",), "--tokenizer")
    if kind_of(found.model) != VQ:
        raise UserError(f"--tokenizer {path} has no codebook; train one with `medloom train autoencoder --kind vq`.")
    _require_space(load_spec(found.model), prepared, path)
    refuse_seen_parent(found, prepared, "tokenizer")
    return load_tokenizer(found.model / VQ)


def _require_space(spec: ImageSpec, prepared: Prepared, path: Path) -> None:
    # Grey data are given to a colour autoencoder in three channels; the other way round is refused by with_channels.
    aligned = replace(prepared.spec, channels=spec.channels)
    spec.require_same_space(aligned, f"the autoencoder {path}", "the data")
    if unknown := sorted(set(prepared.spec.intensity) - set(spec.intensity)):
        say(f"the autoencoder {path} was not trained on {', '.join(unknown)}: look at how it gives them back.")
