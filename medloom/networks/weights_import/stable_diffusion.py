"""Stable Diffusion 1.x and 2.x from single files, pickled folders and LoRA files, as pipelines of diffusers.

diffusers' own loaders do the work; only the classes of this module are ever built, and nothing is fetched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from medloom.core.errors import UserError
from medloom.core.files import read_mapping
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.weight_files import INDEX, PICKLED, PIPELINES, PREFERRED, weights_variant
from medloom.networks.weights import require_finite
from medloom.networks.weights_import.layouts import TOKENIZER_FILES
from medloom.networks.weights_import.tensors import SAFETENSORS, first_file, read_tensors

LIBRARIES = ("diffusers", "transformers", "stable_diffusion", None)
# Files that a U-Net of Stable Diffusion 1.x or 2.x always has in the layout of its authors.
SINGLE_FILE_KEY = "model.diffusion_model.input_blocks.0.0.weight"
SDXL_KEY = "conditioner.embedders."
# A low-rank update is a pair of matrices; the first one ends like this, whoever wrote the file.
DOWN = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", "_lora.down.weight")


def read_checkpoint(path: Path, config: Path | None) -> Any:
    """A pipeline with the weights of a single file.

    Args:
        path: a .safetensors or .ckpt file in the layout of Stable Diffusion's authors.
        config: a diffusers folder of the same version, whose configuration and tokenizer are read.

    Raises:
        UserError: another kind of file, one that cannot be read without running code, weights that are not finite, or
            no such folder.
    """
    from diffusers import StableDiffusionPipeline

    if config is None:
        raise UserError(
            f"--checkpoint {path} holds weights only; name a diffusers folder of the same version of Stable Diffusion"
            " with --base-config, whose configuration and tokenizer are read."
        )
    _require_pipeline(config, "--base-config")
    names = read_tensors(path).keys()
    if SINGLE_FILE_KEY not in names or any(name.startswith(SDXL_KEY) for name in names):
        raise UserError(f"--checkpoint {path} is no checkpoint of Stable Diffusion 1.x or 2.x; give another file.")
    with _explained(f"--checkpoint {path} does not fit --base-config {config}"):
        pipeline = StableDiffusionPipeline.from_single_file(
            str(path),
            config=str(config),
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.to(dtype=torch.float32)
    _require_finite(pipeline, f"--checkpoint {path}")
    return pipeline


def read_folder(folder: Path, option: str) -> Any:
    """The pipeline of a diffusers folder, with safetensors or with pickled weights; without its safety checker.

    Raises:
        UserError: no such folder, incomplete or damaged, weights that are not finite, or pickled files with more than
            tensors.
    """
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    kind = _require_pipeline(folder, option)
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": CLIPTextModel,
    }
    with _explained(f"{option} {folder} cannot be loaded"):
        loaded = {name: _component(folder, name, part, option) for name, part in parts.items()}
        loaded["tokenizer"] = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded["scheduler"] = _scheduler(folder)
        extra = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = getattr(diffusers, kind)(**loaded, **extra)
    _require_finite(pipeline, f"{option} {folder}")
    return pipeline


def merge_lora(pipeline: Any, path: Path, scale: float) -> None:
    """Merge the low-rank updates of a LoRA file into a pipeline.

    Args:
        pipeline: of `read_folder`.
        path: a LoRA file in the format of kohya's scripts, peft or diffusers.
        scale: factor on the updates.

    Raises:
        UserError: no LoRA file, one for another network, or weights that are not finite.
    """
    tensors = read_tensors(path)
    require_finite(tensors, f"--lora {path}")
    updates = sum(name.endswith(DOWN) for name in tensors)
    if not updates:
        raise UserError(f"--lora {path} holds no low-rank updates (lora_down or lora_A weights); give a LoRA file.")
    with _explained(f"--lora {path} does not fit the base; give one of the same version of Stable Diffusion"):
        # By path and not by tensors, so that diffusers reads the metadata too.
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
        fitting = sum(_adapters(part) for part in (pipeline.unet, pipeline.text_encoder))
        if fitting != updates:
            raise UserError(
                f"--lora {path}: {updates - fitting} of its {updates} updates are for layers that the base does not"
                " have; give a LoRA of the same version of Stable Diffusion."
            )
        pipeline.fuse_lora(lora_scale=scale, safe_fusing=True)
        pipeline.unload_lora_weights()
    _require_finite(pipeline, f"--lora {path} at --scale {scale:g}")


def _require_finite(pipeline: Any, where: str) -> None:
    """Refuse a pipeline with weights that are not finite.

    Raises:
        UserError: names the first of them.
    """
    for part in ("unet", "vae", "text_encoder"):
        weights = getattr(pipeline, part).state_dict()
        require_finite({f"{part}.{name}": tensor for name, tensor in weights.items()}, where)


def _adapters(network: Any) -> int:
    """Layers of a network with low-rank updates."""
    return sum(len(module.lora_A) for module in network.modules() if hasattr(module, "lora_A"))


def _require_pipeline(folder: Path, option: str) -> str:
    """The class of a Stable Diffusion folder's pipeline.

    Raises:
        UserError: not such a folder, or one whose parts are of other libraries.
    """
    if not folder.is_dir():
        raise UserError(f"{option} {folder} is not a folder; name a diffusers folder of Stable Diffusion.")
    if not (folder / INDEX).is_file():
        raise UserError(f"{option} {folder} is not a diffusers folder of Stable Diffusion: it has no {INDEX}.")
    index = read_mapping(folder / INDEX)
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        raise UserError(f"{option} {folder} is a {kind}; allowed: {', '.join(PIPELINES)}.")
    for name, part in index.items():
        if isinstance(part, list) and part and part[0] not in LIBRARIES:
            raise UserError(
                f"{option} {folder} has its {name} from {part[0]!r}, code of its own, which is never run; give a folder"
                " with parts of diffusers and transformers only."
            )
    if first_file(folder / "tokenizer", TOKENIZER_FILES) is None:
        raise UserError(f"{option} {folder} has no tokenizer ({', '.join(TOKENIZER_FILES[2:4])} in tokenizer/).")
    return str(kind)


def _component(folder: Path, name: str, part: Any, option: str) -> Any:
    """A network of a folder, in fp32; its safetensors if there are any, else its pickled weights.

    Raises:
        UserError: no weights, or ones that cannot be read.
    """
    where = folder / name
    safe = any(where.glob(f"*{SAFETENSORS}"))
    pickled = [] if safe else sorted(where.glob(f"*{PICKLED[0]}"))
    for path in pickled:
        # Says what is wrong with a file better than the library.
        read_tensors(path)
    halves = pickled and all(f".{PREFERRED}." in path.name for path in pickled)
    variant = (PREFERRED if halves else None) if pickled else weights_variant(where, option)
    return part.from_pretrained(
        where, use_safetensors=safe, variant=variant, torch_dtype=torch.float32, local_files_only=True
    )


def _scheduler(folder: Path) -> Any:
    import diffusers

    name = str(read_mapping(folder / "scheduler" / "scheduler_config.json").get("_class_name"))
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if kind is None:
        raise UserError(f"{folder}/scheduler: diffusers has no scheduler {name!r}.")
    return kind.from_pretrained(folder / "scheduler", local_files_only=True)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns an error of the libraries into one sentence."""
    try:
        yield
    except LOAD_ERRORS as error:
        # The first line of a library's error is often only a heading.
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(f"{what} ({reason}).") from error
