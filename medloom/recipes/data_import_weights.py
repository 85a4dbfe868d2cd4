"""`medloom data import weights`: published weights in other layouts become folders that training reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medloom import __version__
from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, hash_file, write_json
from medloom.core.limits import check_limits, limited
from medloom.core.progress import say

# Written by this command and nothing else.
DESCRIPTION = "weights_import.json"
# Option that names weights -> what it names.
SOURCES = {"text_encoder": "folder", "checkpoint": "file or folder", "lora": "file"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Convert published weights: a text encoder, a Stable Diffusion checkpoint, or a LoRA file.

    Give one of --text-encoder, --checkpoint and --lora. Nothing is downloaded, and no code of a folder is run.

    Attributes:
        out: new folder: of --text-encoder for `--text.encoder`, of --checkpoint and --lora for `--base`.
        text_encoder: folder of a text encoder: with pickled weights (pytorch_model.bin), of open_clip (BiomedCLIP), of
            MedCLIP, or of cxr-bert.
        checkpoint: Stable Diffusion 1.x or 2.x as a single .safetensors or .ckpt file, or as a diffusers folder with
            pickled weights.
        lora: LoRA file of kohya's scripts, peft or diffusers, which is merged into --base.
        base: Stable Diffusion folder that --lora belongs to.
        base_config: folder whose settings and tokenizer are read where the weights come without: of a text encoder, the
            network that it was made from (MedCLIP: Bio_ClinicalBERT); of a single file, a diffusers folder of the same
            version of Stable Diffusion.
        scale: factor on the updates of --lora.
    """

    common: ClassVar[tuple[str, ...]] = ("text_encoder", "checkpoint", "lora", "base", "base_config", "scale")
    example: ClassVar[str] = "medloom data import weights --text-encoder BiomedCLIP/ --out biomedclip/"

    out: Path
    text_encoder: Path | None = None
    checkpoint: Path | None = None
    lora: Path | None = None
    base: Path | None = None
    base_config: Path | None = None
    scale: float = limited(1.0, above=0, at_most=10)

    def __post_init__(self) -> None:
        check_limits(self)


def run(config: Config) -> Path:
    """Convert; returns the folder.

    Raises:
        UserError: none or several of the sources, options that do not belong to it, files that cannot be read, or an
            output folder with other content.
    """
    source, path = _source_of(config)
    _require_new(config.out, [folder for folder in (path, config.base, config.base_config) if folder])

    # Imported here, so that help imports no torch.
    from medloom.networks.weights_import.quiet import quiet_libraries

    with quiet_libraries(), atomic_folder(config.out) as folder:
        record: dict[str, object] = {"medloom": __version__, "option": _flag(source)}
        if source == "text_encoder":
            record |= _import_text_encoder(path, config.base_config, folder)
            use = "--text.encoder"
        else:
            pipeline = _read_pipeline(config, path)
            pipeline.save_pretrained(folder, safe_serialization=True)
            record |= {"scale": config.scale} if source == "lora" else {}
            use = "--base"
        if path.is_file():
            record["hash"] = hash_file(path)
        write_json(folder / DESCRIPTION, record)
    say(f"wrote {config.out}: medloom train text2image {use} {config.out} --data MANIFEST --out RUN")
    return config.out


def _import_text_encoder(path: Path, base_config: Path | None, folder: Path) -> dict[str, object]:
    from medloom.networks.weights_import.text_encoders import convert_text_encoder, write_text_encoder

    converted = convert_text_encoder(path, base_config)
    write_text_encoder(converted, folder)
    pooling = converted.pooling
    pooled = "the mean over tokens" if pooling is None else f"a vector of its own, of width {pooling.config.width}"
    width, layout = converted.model.config.hidden_size, converted.layout.value
    say(f"{path}: {layout} layout; token embeddings of width {width}, pooled to {pooled}.")
    return {"layout": layout, "hash": hash_file(converted.weights)}


def _read_pipeline(config: Config, path: Path) -> Any:
    """The Stable Diffusion pipeline of --checkpoint, or of --lora and --base."""
    from medloom.networks.weights_import.stable_diffusion import merge_lora, read_checkpoint, read_folder

    if config.base is not None:
        pipeline = read_folder(config.base, "--base")
        merge_lora(pipeline, path, config.scale)
        return pipeline
    return read_folder(path, "--checkpoint") if path.is_dir() else read_checkpoint(path, config.base_config)


def _source_of(config: Config) -> tuple[str, Path]:
    """The one option that names the weights, and its path.

    Raises:
        UserError: none or several, a path that does not exist, or options of another source.
    """
    given = {name: path for name in SOURCES if (path := getattr(config, name)) is not None}
    if len(given) != 1:
        what = " and ".join(map(_flag, given)) or "none"
        raise UserError(f"give one of {', '.join(map(_flag, SOURCES))}, not {what}.")
    source, path = next(iter(given.items()))
    if not path.exists():
        raise UserError(f"{_flag(source)} {path} does not exist; name a downloaded {SOURCES[source]}.")
    if (not path.is_dir() and SOURCES[source] == "folder") or (not path.is_file() and SOURCES[source] == "file"):
        raise UserError(f"{_flag(source)} {path} is no {SOURCES[source]}; give one.")
    if source == "lora" and config.base is None:
        raise UserError("--lora needs --base, the Stable Diffusion folder that it belongs to.")
    for name, sources in {"base": ("lora",), "base_config": ("text_encoder", "checkpoint")}.items():
        folder: Path | None = getattr(config, name)
        if folder is not None and source not in sources:
            raise UserError(f"{_flag(name)} is for {' and '.join(map(_flag, sources))}; leave it out.")
        if folder is not None and not folder.is_dir():
            raise UserError(f"{_flag(name)} {folder} does not exist or is not a folder; name a folder.")
    if config.scale != 1 and source != "lora":
        raise UserError("--scale is for --lora; leave it out.")
    return source, path


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _require_new(out: Path, sources: Sequence[Path]) -> None:
    """Refuse an output folder that another command or a user filled, or that holds what is read.

    Raises:
        UserError: names it.
    """
    for path in sources:
        if path.resolve().is_relative_to(out.resolve()):
            raise UserError(f"--out {out} would replace {path}, which is read; name another folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / DESCRIPTION).is_file():
        raise UserError(f"--out {out} already has other content (no {DESCRIPTION}); name a new or empty folder.")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder.")
