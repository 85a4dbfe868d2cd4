"""A diffusion generator in Stable Diffusion's layout, as diffusers' pipelines open it."""

from pathlib import Path
from typing import Any

from medloom.core.files import write_json
from medloom.generators.diffusion.model import DiffusionModel
from medloom.networks.stable_diffusion import StableDiffusionUNet, fuse_lora, save_lora
from medloom.networks.weights import require_finite
from medloom.processes.paths import DDPM, ProbabilityPath

LORA = "lora"
PIPELINE, EDITING_PIPELINE = "StableDiffusionPipeline", "StableDiffusionInstructPix2PixPipeline"


def pipeline_of(model: DiffusionModel) -> str:
    """The diffusers pipeline that an exportable model opens in."""
    return EDITING_PIPELINE if model.prior_channels else PIPELINE


def load_exportable(folder: Path) -> StableDiffusionUNet:
    """The U-Net that `save_exportable` wrote.

    Raises:
        UserError: weights that are not finite.
    """
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True, local_files_only=True)
    require_finite(unet.state_dict(), str(folder / "unet"))
    return StableDiffusionUNet(unet)


def save_exportable(model: DiffusionModel, path: ProbabilityPath, folder: Path) -> None:
    """Write U-Net, scheduler and model_index.json.

    Low-rank updates are fused into the U-Net, and written alone to `lora/` for diffusers' `load_lora_weights`.
    """
    denoiser = model.denoiser
    if not isinstance(denoiser, StableDiffusionUNet):
        raise TypeError("a model without a condition encoder has Stable Diffusion's U-Net")
    unet = denoiser.unet
    if getattr(unet, "peft_config", None):
        save_lora(unet, folder / LORA)
        unet = fuse_lora(unet)
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    scheduler = export_scheduler(path)
    scheduler.save_pretrained(folder / "scheduler")
    text = model.text
    index = {
        "_class_name": pipeline_of(model),
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", type(text.model).__name__],
        "tokenizer": ["transformers", type(text.tokenizer).__name__],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index)


def export_scheduler(path: ProbabilityPath) -> Any:
    """The diffusers scheduler that samples like the default sampler of `path`."""
    from diffusers import DPMSolverMultistepScheduler

    if not isinstance(path, DDPM):
        # FlowMatchEuler does not run in Stable Diffusion's pipeline; this one takes flow predictions there.
        shift = getattr(path, "shift", 1.0)
        return DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, final_sigmas_type="zero"
        )
    # Karras' levels begin below a last level of pure noise; there the levels are those that were trained.
    levels = (
        {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        if path.zero_terminal_snr
        else {"use_karras_sigmas": True}
    )
    return DPMSolverMultistepScheduler(
        num_train_timesteps=path.steps,
        trained_betas=path.betas.tolist(),
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[path.prediction],
        final_sigmas_type="sigma_min",
        **levels,
    )
