"""An autoencoder on disk: diffusers' layout where it has one, and the image space that it is for."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from medloom.core.errors import UserError
from medloom.core.files import explained_content, read_mapping
from medloom.core.seeds import torch_generator
from medloom.core.spec import ImageSpec
from medloom.generators.autoencoder.quality import BATCH, ImageData
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.tokenizer import DIFFUSERS, Tokenizer

VAE, VQ = "vae", "vq"
SETTINGS = "autoencoder.json"
CLASS = "AutoencoderKL"
MEASURED_IMAGES = 256


def save_autoencoder(autoencoder: KLAutoencoder, spec: ImageSpec, scale: float, folder: Path) -> None:
    """Write `vae/`, in diffusers' layout, and autoencoder.json.

    Args:
        autoencoder: what is written; it keeps its own scale.
        spec: the image space that it was trained in.
        scale: becomes the saved `scaling_factor`.
        folder: an existing folder.
    """
    config = autoencoder.vae.config
    own = {"scaling_factor": config.scaling_factor, "shift_factor": config.shift_factor}
    # Put back afterwards: a scale that changed in training would change its arithmetic from one save to the next.
    autoencoder.vae.register_to_config(scaling_factor=scale, shift_factor=None)
    try:
        autoencoder.save(folder / VAE)
    finally:
        autoencoder.vae.register_to_config(**own)
    settings = {"kind": "kl", "spec": spec.to_dict(), "factor": autoencoder.factor}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_tokenizer(tokenizer: Tokenizer, spec: ImageSpec, folder: Path) -> None:
    """Write `vq/`, in diffusers' layout where it has one, and autoencoder.json.

    Args:
        tokenizer: what is written.
        spec: the image space that it was trained in.
        folder: an existing folder.
    """
    tokenizer.save(folder / VQ)
    settings = {"kind": "vq", "spec": spec.to_dict(), "factor": tokenizer.factor, "codes": tokenizer.codes}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def kind_of(folder: Path) -> str:
    """kl or vq, of the autoencoder that `save_autoencoder` or `save_tokenizer` wrote to `folder`."""
    with explained_content(folder / SETTINGS):
        return str(read_mapping(folder / SETTINGS)["kind"])


def load_spec(folder: Path) -> ImageSpec:
    """The image space of the autoencoder that `save_autoencoder` wrote to `folder`.

    Raises:
        UserError: it is missing or cut short.
    """
    with explained_content(folder / SETTINGS):
        return ImageSpec.from_dict(read_mapping(folder / SETTINGS)["spec"])


def vae_folder(path: Path, option: str) -> Path:
    """Where a diffusers folder holds its AutoencoderKL: in `vae/`, or itself.

    Raises:
        UserError: it holds none.
    """
    return _component(path, option, VAE, CLASS)


def vq_folder(path: Path, option: str) -> Path:
    """Where a diffusers folder holds its VQModel: in `vq/`, `vqvae/`, or itself.

    Raises:
        UserError: it holds none.
    """
    name = "vqvae" if (path / "vqvae").is_dir() else VQ
    return _component(path, option, name, DIFFUSERS)


def _component(path: Path, option: str, name: str, kind: str) -> Path:
    for folder in (path / name, path):
        if (folder / "config.json").is_file() and read_mapping(folder / "config.json").get("_class_name") == kind:
            return folder
    command = "medloom train autoencoder" + (" --kind vq" if kind == DIFFUSERS else "")
    raise UserError(
        f"{option} {path} holds no {kind}; give a run folder of `{command}`, or a diffusers folder with"
        f" {name}/config.json and its safetensors."
    )


@torch.no_grad()
def latent_scale(autoencoder: KLAutoencoder, data: ImageData, seed: int, device: torch.device) -> float:
    """1 / standard deviation of latents, which brings them to unit deviation (Rombach et al. 2022, appendix G).

    The deviation is over all values of the latents of up to 256 images, spread evenly over the rows, each drawn from
    its posterior with noise of its own.

    Args:
        autoencoder: on `device`, in evaluation mode.
        data: the training images.
        seed: of the posterior noise.
        device: where the encoder runs.
    """
    rows = data.spread(MEASURED_IMAGES)
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return 1.0 / float(torch.cat([_latents(autoencoder, data, batch, seed, device) for batch in batches]).std())


def _latents(
    autoencoder: KLAutoencoder, data: ImageData, rows: Sequence[int], seed: int, device: torch.device
) -> torch.Tensor:
    """Unscaled latents of some rows, float64, flat."""
    moments = autoencoder.moments(torch.from_numpy(data.take(rows)).to(device))
    shape = (moments.shape[1] // 2, *moments.shape[2:])
    noise = torch.stack([torch.randn(shape, generator=torch_generator(seed, "latent scale", row)) for row in rows])
    scaled = autoencoder.sample(moments, noise.to(device))
    return scaled.double().cpu().flatten() / float(autoencoder.vae.config.scaling_factor)
