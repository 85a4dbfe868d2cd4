"""A diffusion generator on disk: a folder a component, in the diffusers layout where a diffusers class exists."""

import json
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.core.mask_spec import MaskSpec
from medloom.core.spec import ImageSpec
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.model import DiffusionModel
from medloom.networks.autoencoder import load_autoencoder
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.denoiser import UNet
from medloom.networks.stable_diffusion import StableDiffusionUNet, fuse_lora
from medloom.networks.text import load_text_parts
from medloom.processes.paths import DDPM, ProbabilityPath, path_from_dict

SETTINGS = "generator.json"
PIPELINE, EDITING_PIPELINE = "StableDiffusionPipeline", "StableDiffusionInstructPix2PixPipeline"


def save_generator(generator: DiffusionGenerator, folder: Path) -> None:
    """Write all components to `folder`; an exportable one opens there with the diffusers pipeline `pipeline_of`."""
    model = generator.model
    model.text.save(folder / "tokenizer", folder / "text_encoder")
    if generator.autoencoder is not None:
        generator.autoencoder.save(folder / "vae")
    if model.condition is not None:
        model.condition.save_pretrained(folder / "condition")
        _native(model).save_pretrained(folder / "denoiser")
    else:
        _save_exportable(generator, folder)
    settings = {
        "spec": generator.spec.to_dict(),
        "path": generator.path.to_dict(),
        "modality_as": generator.modality_as,
        "train_text": generator.train_text,
        "max_tokens": model.text.max_tokens,
        "pad": model.text.pad,
        "mask_classes": list(model.mask_classes),
        "prior_channels": model.prior_channels,
        "masks": generator.masks.to_dict(),
        "reads_text": generator.reads_text,
        "exportable": generator.exportable,
        "latent": generator.autoencoder is not None,
    }
    _write(folder / SETTINGS, settings)


def pipeline_of(generator: DiffusionGenerator) -> str:
    """The diffusers pipeline that an exportable generator opens in."""
    return EDITING_PIPELINE if generator.model.prior_channels else PIPELINE


def load_generator(folder: Path) -> DiffusionGenerator:
    """Read what `save_generator` wrote; networks are in evaluation mode, on the CPU.

    Raises:
        UserError: a component is missing or cut short.
    """
    settings = read_json(folder / SETTINGS)
    text = load_text_parts(
        str(folder / "text_encoder"), str(folder / "tokenizer"), settings["max_tokens"], settings["pad"]
    )
    condition, denoiser = _load_networks(folder, settings["exportable"])
    model = DiffusionModel(text, condition, denoiser, settings["mask_classes"], settings.get("prior_channels", 0))
    autoencoder = load_autoencoder(folder / "vae") if settings["latent"] else None
    generator = DiffusionGenerator(
        ImageSpec.from_dict(settings["spec"]),
        path_from_dict(settings["path"]),
        model.eval(),
        autoencoder.eval() if autoencoder is not None else None,
        settings["modality_as"],
        settings["train_text"],
    )
    generator.reads_text = settings.get("reads_text", True)
    if "masks" in settings:
        generator.masks = MaskSpec.from_dict(settings["masks"])
    return generator


def _load_networks(folder: Path, exportable: bool) -> tuple[ConditionEncoder | None, Any]:
    from safetensors import SafetensorError

    try:
        if exportable:
            from diffusers import UNet2DConditionModel

            unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
            return None, StableDiffusionUNet(unet)
        return ConditionEncoder.from_pretrained(folder / "condition"), UNet.from_pretrained(folder / "denoiser")
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {folder} cannot be loaded ({reason}): it was cut short or changed.") from error


def _native(model: DiffusionModel) -> UNet:
    if not isinstance(model.denoiser, UNet):
        raise TypeError("a model with a condition encoder has the N-D U-Net")
    return model.denoiser


def _save_exportable(generator: DiffusionGenerator, folder: Path) -> None:
    denoiser = generator.model.denoiser
    if not isinstance(denoiser, StableDiffusionUNet):
        raise TypeError("a model without a condition encoder has Stable Diffusion's U-Net")
    unet = denoiser.unet
    if getattr(unet, "peft_config", None):
        unet = fuse_lora(unet)
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    scheduler = export_scheduler(generator.path)
    scheduler.save_pretrained(folder / "scheduler")
    text = generator.model.text
    _write(
        folder / "model_index.json",
        {
            "_class_name": pipeline_of(generator),
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", type(scheduler).__name__],
            "text_encoder": ["transformers", type(text.model).__name__],
            "tokenizer": ["transformers", type(text.tokenizer).__name__],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )


def export_scheduler(path: ProbabilityPath) -> Any:
    """The diffusers scheduler that samples like the default sampler of `path`."""
    from diffusers import DPMSolverMultistepScheduler

    if not isinstance(path, DDPM):
        # FlowMatchEuler does not run in Stable Diffusion's pipeline; this one takes flow predictions there.
        shift = getattr(path, "shift", 1.0)
        return DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, final_sigmas_type="zero"
        )
    return DPMSolverMultistepScheduler(
        num_train_timesteps=path.steps,
        trained_betas=path.betas.tolist(),
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[path.prediction],
        use_karras_sigmas=True,
        final_sigmas_type="sigma_min",
    )


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
