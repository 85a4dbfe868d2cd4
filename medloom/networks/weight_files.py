"""The files of weights in a folder of diffusers or transformers: which variant lies there, or why none can be read."""

from pathlib import Path

from medloom.core.errors import UserError

# Names of whole weights, and of the list of their parts.
WHOLE = ("diffusion_pytorch_model", "model")
POINTER = b"version https://git-lfs"
# Weights that can run code when they are read: those of torch, which are converted, and of others.
PICKLED, OTHERS = (".bin", ".pt", ".pth", ".ckpt"), (".msgpack", ".h5")
# The description of a Stable Diffusion folder, and the pipelines that are Stable Diffusion 1.x or 2.x.
INDEX = "model_index.json"
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInstructPix2PixPipeline")
PREFERRED = "fp16"


def weights_variant(folder: Path, option: str) -> str | None:
    """The variant of the safetensors weights in a folder: None for the plain ones, else `fp16` or another.

    Args:
        folder: of one network.
        option: what named it, for errors.

    Raises:
        UserError: there are none; says what lies there instead, and what to do.
    """
    files = [path for path in sorted(folder.glob("*.safetensors")) if path.stem.startswith(WHOLE)]
    for path in filter(is_pointer, files):
        raise UserError(
            f"{option}: {path} is a pointer of Git LFS and not the weights; fetch them with `git lfs pull`."
        )
    found = dict.fromkeys(_variant(path) for path in files)
    if None in found:
        return None
    if found:
        return PREFERRED if PREFERRED in found else next(iter(found))
    others = [path.name for path in sorted(folder.glob("*")) if path.suffix in (*PICKLED, *OTHERS)]
    if others:
        raise UserError(
            f"{option}: {folder} has weights as {others[0]} only, which can run code when they are read; convert them"
            f" to safetensors with `medloom data import weights --checkpoint {folder.parent} --out FOLDER`."
        )
    raise UserError(f"{option}: {folder} has no weights (safetensors).")


def is_pointer(path: Path) -> bool:
    """Whether a file is only a pointer of Git LFS."""
    with path.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def _variant(path: Path) -> str | None:
    """The variant in a name: none in `model.safetensors`, `fp16` in `model.fp16-00001-of-00002.safetensors`."""
    variant = path.name.removesuffix(".safetensors").partition(".")[2]
    return variant.partition("-")[0] or None
