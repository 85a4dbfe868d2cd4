"""`medloom train autoencoder`: from a table of images to the latents, or tokens, of a generator."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.generators.autoencoder.options import AutoencoderOptions
from medloom.generators.preparation import DataOptions
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from medloom.core.spec import ImageSpec
    from medloom.data.dataset import ImageSource
    from medloom.generators.autoencoder.quality import Autoencoder, ImageData, Quality
    from medloom.generators.autoencoder.task import AutoencoderTask
    from medloom.generators.preparation import Prepared
    from medloom.networks.autoencoder import KLAutoencoder
    from medloom.networks.tokenizer import Tokeniser

FAMILY = "autoencoder"
KL, VQ = "kl", "vq"
NEED = ("path",)
FIXED_IMAGES = 16
SHOWN_IMAGES = 24
REPORTED_IMAGES = 2000
REPORT = "reconstruction.json"
PICTURE = "reconstruction.png"


@dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    """Train an image autoencoder: for latent diffusion, or, with --kind vq, the tokeniser of a token generator.

    Attributes:
        data: manifest with path and modality; texts are not needed.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (64 px, minutes on a laptop's CPU), small (128 px, one consumer GPU), base (512 px).
        preset: a published system's settings: stable-diffusion, raygen.
        kind: kl or vq; in place of --autoencoder.kind.
        base: diffusers folder with an AutoencoderKL (in vae/, or itself) to start from, or of vq with a VQModel (in
            vq/, vqvae/, or itself); it brings its own shape.
        from_run: run of this command to go on from (`--from`), with other images or those of another size; it brings
            its own shape, and CT its own window unless another one is named.
        autoencoder: the autoencoder and its losses.
        loop: the training loop.
        cache: folder for decoded images (default: in the run folder).
        device: auto, cpu or cuda.
    """

    data: Path
    out: Path
    size: str = "tiny"
    preset: str | None = None
    kind: str | None = None
    base: Path | None = None
    from_run: Path | None = None
    autoencoder: AutoencoderOptions = field(default_factory=AutoencoderOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    cache: Path | None = None
    device: str = "auto"


def run(config: Config) -> Path:
    """Train; returns the run folder.

    Raises:
        UserError: see the errors of each step below.
    """
    from medloom.core.progress import say
    from medloom.generators.leakage import runs_among
    from medloom.generators.preparation import hu_window, nothing_left, prepare, start_run
    from medloom.training.loop import finished_steps, make_accelerator, train

    config = _of_kind(config)
    _check(config)
    accelerator = make_accelerator(config.loop, config.device)
    shown = accelerator.is_main_process
    if config.from_run is not None:
        config = replace(config, hu_window=hu_window(config, known_space(config.from_run, "--from")))
    prepared = prepare(config.data, config, config.loop.seed, shown, need=NEED)
    prepared, autoencoder = _with_autoencoder(config, prepared)
    parents = runs_among(config.from_run)
    fresh = start_run(config.out, FAMILY, _index(autoencoder), config, prepared, accelerator, parents)
    if finished_steps(config.out) >= config.loop.steps and (config.out / REPORT).is_file():
        if shown:
            say(f"{config.out} is finished: {config.loop.steps} steps. {_use(config)}")
        return config.out
    with nothing_left(config.out, fresh and shown):
        task = _task(config, prepared, autoencoder, accelerator)
    train(task, config.loop, config.out, accelerator)
    if shown:
        _finish(config, prepared, task)
    accelerator.wait_for_everyone()
    return config.out


def _of_kind(config: Config) -> Config:
    """With --kind in place of the autoencoder's own."""
    if config.kind is None:
        return config
    return replace(config, kind=None, autoencoder=replace(config.autoencoder, kind=config.kind))


def _index(autoencoder: "Autoencoder") -> dict[str, Any]:
    """What index.json says: the class of the component, and what opens it."""
    from medloom.networks.autoencoder import KLAutoencoder

    inner = autoencoder.vae if isinstance(autoencoder, KLAutoencoder) else autoencoder.coder
    name = type(inner).__name__
    of_diffusers = type(inner).__module__.startswith("diffusers")
    return {"components": {"autoencoder": name}, "exporter": f"diffusers.{name}" if of_diffusers else None}


def _check(config: Config) -> None:
    if config.autoencoder.kind == KL and len(config.image_size) > 2:
        raise UserError(
            f"--image-size {' '.join(map(str, config.image_size))}: the KL autoencoder takes images of two axes;"
            " give one or two numbers, or --kind vq."
        )
    if config.base is not None and config.from_run is not None:
        raise UserError("--base and --from exclude each other: a run that is gone on from has its own weights.")


def _with_autoencoder(config: Config, prepared: "Prepared") -> "tuple[Prepared, Autoencoder]":
    """The autoencoder that is trained, and the data in the channels that it takes."""
    from medloom.generators.autoencoder.build import build_autoencoder, build_tokeniser
    from medloom.generators.autoencoder.storage import vae_folder, vq_folder
    from medloom.generators.preparation import with_channels
    from medloom.networks.autoencoder import load_autoencoder
    from medloom.networks.tokenizer import Tokeniser, load_tokeniser

    spec, seed = prepared.spec, config.loop.seed
    if config.from_run is not None:
        known = _previous(config.from_run, config.autoencoder.kind, prepared)
        prepared = with_channels(prepared, known.image_channels)
        if isinstance(known, Tokeniser):
            known.grid(prepared.spec.size)
        else:
            known.latent_shape(prepared.spec.size)
        return prepared, known
    if config.autoencoder.kind == VQ:
        if config.base is not None:
            tokeniser = load_tokeniser(vq_folder(config.base, "--base"))
            prepared = with_channels(prepared, tokeniser.image_channels)
        else:
            tokeniser = build_tokeniser(spec.spatial_dims, spec.channels, config.autoencoder, seed)
        tokeniser.grid(spec.size)
        return prepared, tokeniser

    if config.base is not None:
        autoencoder = load_autoencoder(vae_folder(config.base, "--base"))
        prepared = with_channels(prepared, autoencoder.image_channels)
    else:
        autoencoder = build_autoencoder(spec.channels, config.autoencoder, seed)
    autoencoder.latent_shape(prepared.spec.size)
    return prepared, autoencoder


def _previous(path: Path, kind: str, prepared: "Prepared") -> "Autoencoder":
    """The autoencoder of a run to go on from.

    Raises:
        UserError: there is none, of the other kind, or it was trained on patients of the data's test set.
    """
    from medloom.generators.autoencoder.storage import kind_of
    from medloom.generators.leakage import refuse_seen_parent
    from medloom.generators.run_folder import open_run

    found = open_run(path, (FAMILY,), "--from")
    if kind_of(found.model) != kind:
        raise UserError(f"--from {path} is of --kind {kind_of(found.model)}, not {kind}; give that kind.")
    refuse_seen_parent(found, prepared, "autoencoder")
    return load_trained(found.model)


def _task(
    config: Config, prepared: "Prepared", autoencoder: "Autoencoder", accelerator: "Accelerator"
) -> "AutoencoderTask":
    import torch

    from medloom.generators.autoencoder.losses import AutoencoderLosses
    from medloom.generators.autoencoder.task import AutoencoderTask

    device, spec = accelerator.device, prepared.spec
    losses = AutoencoderLosses(config.autoencoder, spec, config.loop.seed, device)
    folder = config.cache or config.out / "cache"
    # The main process fills the cache, the others wait and read it.
    with accelerator.main_process_first():
        data, validation = (
            _images(source, folder, config.skip_bad, accelerator.is_main_process)
            for source in (prepared.train, prepared.validation)
        )
    autoencoder.to(device)
    if spec.spatial_dims == 2:
        # 2-D convolutions are faster with the channels last, on a CPU and on a GPU.
        autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    examples = _chosen(validation if len(validation) else data, FIXED_IMAGES)
    return AutoencoderTask(autoencoder, losses, data, validation, examples, spec, config.loop, device)


def _images(source: "ImageSource", folder: Path, skip_bad: bool, shown: bool) -> "ImageData":
    from medloom.data.dataset import cached_usable_images
    from medloom.generators.autoencoder.quality import ImageData

    images, usable = cached_usable_images(source, folder, skip_bad, shown)
    return ImageData(images, [str(sample.condition.modality) for sample in source.samples], usable)


def _chosen(data: "ImageData", number: int) -> "NDArray[np.float32]":
    """Up to `number` images, of every modality."""
    from medloom.generators.preparation import spread

    places = spread(data.usable, [data.modalities[row] for row in data.usable], number)
    return data.take([data.usable[place] for place in places])


def _finish(config: Config, prepared: "Prepared", task: "AutoencoderTask") -> None:
    """Say how good the saved model is, on held-out images where there are any."""
    from medloom.core.progress import say
    from medloom.generators.model_card import write_card

    split = "validation" if len(task.validation) else "train"
    _print(_report(config, task, split), "held-out" if split == "validation" else "training")
    write_card(config.out, prepared.spec, len(task.data), config.loop.steps)
    say(f"trained: {config.out}. {_use(config)}")


def _report(config: Config, task: "AutoencoderTask", split: str) -> "dict[str, Quality]":
    """Write reconstruction.png, then reconstruction.json, whose presence says that the run is finished."""
    from medloom.core.files import write_json
    from medloom.core.progress import progress, say
    from medloom.generators.autoencoder.quality import codes_used, reconstruction_quality, save_comparison
    from medloom.networks.tokenizer import Tokeniser

    data = task.validation if split == "validation" else task.data
    autoencoder = load_trained(config.out / "model").to(task.device).eval()
    rows = data.spread(REPORTED_IMAGES)
    with progress("reconstructing", len(rows), "images") as advance:
        quality = reconstruction_quality(autoencoder, data, rows, task.device, advance)
    note = f"after {config.loop.steps} steps"
    save_comparison(config.out / PICTURE, autoencoder, _chosen(data, SHOWN_IMAGES), task.device, note)
    figures = {name: entry.to_dict() for name, entry in quality.items()}
    told: dict[str, Any] = {"split": split, "steps": config.loop.steps, "modalities": figures}
    if isinstance(autoencoder, Tokeniser):
        told["codebook"] = codes_used(autoencoder, data, rows, task.device)
        used, even = told["codebook"].values()
        say(f"of {autoencoder.codes} codes {used:.0%} are used; perplexity {even:.0f}")
    write_json(config.out / REPORT, told)
    return quality


def load_trained(model: Path) -> "Autoencoder":
    """The autoencoder or tokeniser of a run's folder `model/`."""
    from medloom.generators.autoencoder.storage import VAE, kind_of
    from medloom.networks.autoencoder import load_autoencoder
    from medloom.networks.tokenizer import load_tokeniser

    return load_tokeniser(model / VQ) if kind_of(model) == VQ else load_autoencoder(model / VAE)


def _print(quality: "dict[str, Quality]", images: str) -> None:
    from rich.table import Table

    from medloom.core.progress import console

    table = Table(title=f"reconstruction of {images} images (values from 0 to 1)")
    for name in ("modality", "n", "PSNR, dB", "SSIM", "mean absolute difference"):
        table.add_column(name, justify="left" if name == "modality" else "right")
    for name, entry in quality.items():
        table.add_row(name, str(entry.n), f"{entry.psnr:.2f}", f"{entry.ssim:.3f}", f"{entry.l1:.4f}")
    console().print(table)


def _use(config: Config) -> str:
    if config.autoencoder.kind == VQ:
        return f"Use it with: medloom train tokens --tokenizer {config.out} --data MANIFEST --out RUN"
    return f"Use it with: medloom train text2image --autoencoder {config.out} --data MANIFEST --out RUN"


def known_space(folder: Path | str | None, option: str) -> "ImageSpec | None":
    """The image space of an autoencoder's run; None of a diffusers folder, which does not say it, and of none."""
    from medloom.generators.autoencoder.storage import load_spec
    from medloom.generators.run_folder import INDEX, open_run

    if folder is None or not (Path(folder) / INDEX).is_file():
        return None
    return load_spec(open_run(Path(folder), (FAMILY,), option).model)


def find_autoencoder(path: Path, prepared: "Prepared") -> "KLAutoencoder":
    """The autoencoder for a latent generator of some data.

    Args:
        path: a run folder of `medloom train autoencoder`, or a diffusers folder with an AutoencoderKL.
        prepared: the generator's data.

    Raises:
        UserError: there is none, it was trained in another image space, or on patients of the data's test set.
    """
    from medloom.generators.autoencoder.storage import VAE, kind_of, load_spec, vae_folder
    from medloom.generators.leakage import refuse_seen_parent
    from medloom.generators.run_folder import INDEX, open_run
    from medloom.networks.autoencoder import load_autoencoder

    if not (path / INDEX).is_file():
        return load_autoencoder(vae_folder(path, "--autoencoder"))
    found = open_run(path, (FAMILY,), "--autoencoder")
    if kind_of(found.model) != KL:
        raise UserError(
            f"--autoencoder {path} makes tokens, for `medloom train tokens`; latent diffusion takes --kind kl."
        )
    _require_space(load_spec(found.model), prepared, path)
    refuse_seen_parent(found, prepared, "autoencoder")
    return load_autoencoder(found.model / VAE)


def find_tokeniser(path: Path, prepared: "Prepared") -> "Tokeniser":
    """The tokeniser for a token generator of some data.

    Args:
        path: a run folder of `medloom train autoencoder --kind vq`, or a diffusers folder with a VQModel.
        prepared: the generator's data.

    Raises:
        UserError: there is none, it was trained in another image space, or on patients of the data's test set.
    """
    from medloom.generators.autoencoder.storage import kind_of, load_spec, vq_folder
    from medloom.generators.leakage import refuse_seen_parent
    from medloom.generators.run_folder import INDEX, open_run
    from medloom.networks.tokenizer import load_tokeniser

    if not (path / INDEX).is_file():
        return load_tokeniser(vq_folder(path, "--tokenizer"))
    found = open_run(path, (FAMILY,), "--tokenizer")
    if kind_of(found.model) != VQ:
        raise UserError(f"--tokenizer {path} has no codebook; train one with `medloom train autoencoder --kind vq`.")
    _require_space(load_spec(found.model), prepared, path)
    refuse_seen_parent(found, prepared, "tokenizer")
    return load_tokeniser(found.model / VQ)


def _require_space(spec: "ImageSpec", prepared: "Prepared", path: Path) -> None:
    from medloom.core.progress import say

    # Grey data are given to a colour autoencoder in three channels; the other way round is refused by with_channels.
    aligned = replace(prepared.spec, channels=spec.channels)
    spec.require_same_space(aligned, f"the autoencoder {path}", "the data")
    if unknown := sorted(set(prepared.spec.intensity) - set(spec.intensity)):
        say(f"the autoencoder {path} was not trained on {', '.join(unknown)}: look at how it gives them back.")
