"""A Stable Diffusion model to start from: found and checked before anything else is done, then loaded part by part."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_json
from medloom.networks.autoencoder import KLAutoencoder, load_autoencoder
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.text import TextEncoder, load_text_parts
from medloom.networks.weight_files import INDEX, PIPELINES, weights_variant
from medloom.networks.weights import require_finite
from medloom.networks.weights_source import HUB, find_weights
from medloom.processes.paths import DDPM

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

# Pipelines that are asked for often -> what they are.
OTHERS: Mapping[str, str] = {
    "StableDiffusionXL": "Stable Diffusion XL, which has two text encoders and conditions of its own",
    "StableDiffusion3": "Stable Diffusion 3, which has a transformer and three text encoders",
    "Flux": "Flux, which has a transformer and two text encoders",
    "PixArt": "PixArt, which has a transformer",
    "StableDiffusionInpaint": "an inpainting model, which takes a mask and a masked image as well",
    "StableDiffusionUpscale": "an upscaling model, which takes a small image as well",
    "StableDiffusionDepth2Img": "a model of depth, which takes a depth map as well",
    "StableDiffusionControlNet": "a ControlNet, which takes a picture of structure as well",
    "LatentConsistency": "a distilled model (latent consistency)",
}
# What the U-Net would be given besides image, time and text -> what it is.
FURTHER_INPUTS: Mapping[str, str] = {
    "addition_embed_type": "conditions of Stable Diffusion XL",
    "class_embed_type": "classes",
    "num_class_embeds": "classes",
    "time_cond_proj_dim": "a guidance scale, as distilled models do",
    "encoder_hid_dim": "another encoder's tokens",
    "encoder_hid_dim_type": "another encoder's tokens",
}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
# Keys of a scheduler that change what a network was trained on and are not known here, where they have such a value.
UNKNOWN_NOISE: Mapping[str, tuple[object, ...]] = {
    "use_flow_sigmas": (True,),
    "variance_type": ("learned", "learned_range"),
}
UNSUPPORTED_SCHEDULERS = ("Flow", "EDM", "VQ", "LCM", "TCD", "CMStochastic", "Cog", "Score", "KarrasVe")
INPAINTING_CHANNELS = 9


@dataclass(frozen=True)
class StableDiffusionBase:
    """A Stable Diffusion 1.x or 2.x model on disk that was checked.

    Attributes:
        name: as the user named it.
        folder: where it lies.
        path: the noise that it was trained on.
        variants: of each network the variant of its weight files, as `fp16`; None for the plain ones.
    """

    name: str
    folder: Path
    path: DDPM
    variants: Mapping[str, str | None]

    def load_unet(self) -> "UNet2DConditionModel":
        """The U-Net, in fp32.

        Raises:
            UserError: it cannot be loaded.
        """
        import torch
        from diffusers import UNet2DConditionModel

        where = self.folder / "unet"
        try:
            unet: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(
                where,
                use_safetensors=True,
                variant=self.variants["unet"],
                torch_dtype=torch.float32,
                local_files_only=True,
            )
        except LOAD_ERRORS as error:
            raise UserError(f"--base {self.name}: {where} cannot be loaded ({first_line(error)}).") from error
        require_finite(unet.state_dict(), f"--base {self.name}: {where}")
        return unet

    def load_autoencoder(self) -> KLAutoencoder:
        """The autoencoder, in fp32.

        Raises:
            UserError: it cannot be loaded.
        """
        return load_autoencoder(self.folder / "vae", self.variants["vae"])

    def load_text_encoder(self, max_tokens: int) -> TextEncoder:
        """The text encoder, in fp32, which pads as Stable Diffusion's pipeline does.

        Raises:
            UserError: it cannot be loaded.
        """
        model, tokenizer = str(self.folder / "text_encoder"), str(self.folder / "tokenizer")
        return load_text_parts(model, tokenizer, max_tokens, "max", self.variants["text_encoder"])

    def known_options(self) -> dict[str, object]:
        """Options of a training that it decides, and its values."""
        path = self.path
        given = {"schedule": path.schedule, "steps": path.steps, "prediction": path.prediction}
        return {
            "network.exportable": True,
            "network.fusion": "cross-attention",
            "noise.process": "ddpm",
            "text.modality_as": "text",
            **{f"noise.{name}": value for name, value in given.items()},
        }


def find_base(name: str, editing: bool) -> StableDiffusionBase:
    """Find a Stable Diffusion model and check everything that a training depends on.

    Args:
        name: a diffusers folder, or `hf:` and a hub id.
        editing: whether an editor is trained, whose network is given a prior image.

    Raises:
        UserError: says what lies there, why a training cannot start from it, and what to do.
    """
    folder, option = _located(name), f"--base {name}"
    pipeline = str(_json(folder / INDEX, option).get("_class_name"))
    if pipeline not in PIPELINES:
        what = next((text for start, text in OTHERS.items() if pipeline.startswith(start)), f"of the kind {pipeline}")
        raise UserError(f"{option} is {what}; give a Stable Diffusion 1.x or 2.x folder ({', '.join(PIPELINES)}).")
    _check_unet(folder, option, editing)
    variants = {part: weights_variant(folder / part, option) for part in ("unet", "vae", "text_encoder")}
    return StableDiffusionBase(name, folder, _noise_of(folder, option), variants)


def _located(name: str) -> Path:
    """The folder of a model, from the hub if the name says so (safetensors only)."""
    option = f"--base {name}"
    if name.startswith(HUB):
        return _downloaded(name)
    folder = Path(name)
    if folder.is_file():
        raise UserError(
            f"{option} is a single file; give a diffusers folder. `medloom data import weights` makes one: of a"
            f" checkpoint with --checkpoint {name} --base-config SD --out FOLDER, of a LoRA file with --lora {name}"
            " --base SD --out FOLDER."
        )
    if not folder.is_dir():
        raise UserError(
            f"{option} does not exist; give a Stable Diffusion folder, or {HUB}ORG/NAME for one on the hub."
        )
    if not (folder / INDEX).is_file():
        raise UserError(f"{option} is not a Stable Diffusion folder: it has no {INDEX}.")
    return folder


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "unet/*.safetensors", "vae/*.safetensors", "text_encoder/*.safetensors"]
    try:
        return Path(snapshot_download(find_weights(name, "--base").name, allow_patterns=wanted))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"--base {name} cannot be fetched from the hub ({first_line(error)}).") from error


def _check_unet(folder: Path, option: str, editing: bool) -> None:
    """Refuse a U-Net that takes more than an image, a time and a text, and of an editor a prior image's latent.

    Raises:
        UserError: it takes anything else besides image, time and text, or is no such U-Net.
    """
    config = _json(folder / "unet" / "config.json", option)
    kind = config.get("_class_name", "UNet2DConditionModel")
    if kind != "UNet2DConditionModel":
        raise UserError(
            f"{option}: its network is a {kind}, not a UNet2DConditionModel; give a Stable Diffusion folder."
        )
    for key, what in FURTHER_INPUTS.items():
        if config.get(key) is not None:
            raise UserError(
                f"{option}: its U-Net takes {what} ({key} {config[key]}), which medloom does not give it; use a Stable"
                " Diffusion 1.x or 2.x model without."
            )
    channels, latents = config.get("in_channels", 4), config.get("out_channels", 4)
    stored = _json(folder / "vae" / "config.json", option).get("latent_channels", 4)
    if latents != stored:
        raise UserError(f"{option}: its U-Net makes latents of {latents} channels, and its autoencoder takes {stored}.")
    if channels == INPAINTING_CHANNELS:
        raise UserError(
            f"{option}: its U-Net takes {channels} input channels (an inpainting model); give the model that it was"
            " made from, and say where an edit may change with `medloom edit --region`."
        )
    if channels == 2 * latents and not editing:
        raise UserError(
            f"{option}: its U-Net takes {channels} input channels (an instruct-pix2pix model, which edits); use"
            " `medloom train edit`, or give the model that it was made from."
        )
    if channels not in (latents, 2 * latents):
        raise UserError(
            f"{option}: its U-Net takes {channels} input channels; allowed are {latents}, and {2 * latents}."
        )


def _noise_of(folder: Path, option: str) -> DDPM:
    """The path that the model was trained on, from its scheduler's settings.

    Raises:
        UserError: noise that is not known here, by the name of the setting.
    """
    values = _json(folder / "scheduler" / "scheduler_config.json", option)
    where, kind = f"{option}, its scheduler", str(values.get("_class_name", ""))
    if kind.startswith(UNSUPPORTED_SCHEDULERS):
        raise UserError(f"{where}: a {kind} cannot be trained on; give a model of discrete diffusion (DDPM).")
    for key, refused in UNKNOWN_NOISE.items():
        if values.get(key) in refused:
            raise UserError(f"{where}: {key} {values[key]} is not supported; give a model without.")
    prediction, schedule = values.get("prediction_type", "epsilon"), values.get("beta_schedule", "linear")
    if prediction not in PREDICTIONS:
        raise UserError(f"{where}: prediction_type {prediction} is not supported; allowed: {', '.join(PREDICTIONS)}.")
    steps, trained = values.get("num_train_timesteps", 1000), values.get("trained_betas")
    if trained is None and schedule not in SCHEDULES:
        raise UserError(f"{where}: beta_schedule {schedule} is not supported; allowed: {', '.join(SCHEDULES)}.")
    ends = {name: values[name] for name in ("beta_start", "beta_end") if name in values}
    if trained is not None or schedule == "squaredcos_cap_v2":
        ends = {}
    try:
        return DDPM(
            SCHEDULES.get(schedule, "linear"),
            steps if trained is None else len(trained),
            PREDICTIONS[prediction],
            trained_betas=None if trained is None else tuple(map(float, trained)),
            zero_terminal_snr=bool(values.get("rescale_betas_zero_snr", False)),
            **ends,
        )
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def _json(path: Path, option: str) -> dict[str, Any]:
    values = read_json(path) if path.is_file() else None
    if not isinstance(values, dict):
        what = "is damaged" if path.is_file() else "is missing"
        raise UserError(f"{option} is not a whole Stable Diffusion folder: {path.relative_to(path.parents[1])} {what}.")
    return values
