"""`medloom train mask2image`: from a table of images and masks to a diffusion generator, in 2-D and 3-D."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.generators.diffusion.options import NetworkOptions, NoiseOptions, TextOptions
from medloom.generators.preparation import check_shift, refuse_prior
from medloom.recipes.wholes import VolumeOptions
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from medloom.core.mask_spec import MaskSpec
    from medloom.generators.diffusion.generator import DiffusionGenerator
    from medloom.generators.diffusion.task import DiffusionTask
    from medloom.generators.preparation import Prepared
    from medloom.networks.autoencoder import KLAutoencoder

FAMILY = "diffusion"
NEED = ("path", "mask")
# Folded pixels that the network sees at its first resolution, where --network.patch is left to us.
CELLS = {2: 32**2, 3: 2 * 32**3}


def _network() -> NetworkOptions:
    return NetworkOptions(mask="channels", fusion="affine")


def _noise() -> NoiseOptions:
    # What lies where in a volume is settled near pure noise; docs/mask2image.md has the comparison.
    return NoiseOptions(shift=6.0, logit_std=1.5)


@dataclass(frozen=True, kw_only=True)
class Config(VolumeOptions):
    """Train a diffusion generator that makes images of masks.

    Attributes:
        data: manifest with path and mask; Text, modality and a clinical table where there are any. A path that is a
            folder is read as one DICOM series.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (a laptop's CPU), small (one consumer GPU), base (several GPUs).
        preset: a published system's settings: dgm-vlc.
        fusion: how text, modality and table reach the network: cross-attention, affine or none; in place of
            --network.fusion.
        autoencoder: run folder of `train autoencoder`, or a diffusers folder with one, for latent diffusion of whole
            images.
        table: clinical columns that the model is told directly, as numbers and categories, beside the text; a template
            beside the manifest says how their cells are read.
        network: the denoiser.
        text: the text encoder and how the modality is told.
        noise: the noising process.
        loop: the training loop.
        cache: folder for decoded images, masks and embeddings (default: in the run folder).
        device: auto, cpu or cuda.
    """

    data: Path
    out: Path
    size: str = "tiny"
    preset: str | None = None
    fusion: str | None = None
    autoencoder: str | None = None
    table: tuple[str, ...] = ()
    network: NetworkOptions = field(default_factory=_network)
    text: TextOptions = field(default_factory=TextOptions)
    noise: NoiseOptions = field(default_factory=_noise)
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
    from medloom.generators.preparation import hu_window, nothing_left, prepare, start_run, with_masks
    from medloom.recipes.autoencoder import known_space
    from medloom.recipes.conditioned import diffusion_index, readable
    from medloom.recipes.wholes import masks_of, space_of
    from medloom.training.loop import finished_steps, make_accelerator, train

    config = _fused(config)
    _check(config)
    # Without cross-attention the text's tokens go nowhere; only its pooled vector does.
    accelerator = make_accelerator(config.loop, config.device, config.network.fusion != "cross-attention")
    shown = accelerator.is_main_process
    config = replace(config, hu_window=hu_window(config, known_space(config.autoencoder, "--autoencoder")))
    prepared = prepare(config.data, config, config.loop.seed, shown, need=NEED, space=space_of(config))
    samples = [*prepared.train.samples, *prepared.validation.samples]
    masks = masks_of(config, samples, config.network.mask_classes, shown)
    prepared, autoencoder = _with_autoencoder(config, with_masks(prepared, masks))
    generator = _generator(config, prepared, masks, autoencoder, shown)
    prepared = readable(prepared, generator, config.data, shown)
    parents = runs_among(config.autoencoder, config.text.encoder)
    fresh = start_run(config.out, FAMILY, diffusion_index(generator), config, prepared, accelerator, parents)
    if finished_steps(config.out) >= config.loop.steps:
        if shown:
            say(f"{config.out} is finished: {config.loop.steps} steps. Generate with --model {config.out}.")
        return config.out
    with nothing_left(config.out, fresh and shown):
        task = _task(config, prepared, generator.to(accelerator.device), accelerator)
    train(task, config.loop, config.out, accelerator)
    if shown:
        _finish(config, generator, prepared)
    return config.out


def _fused(config: Config) -> Config:
    """With --fusion in place of the network's own."""
    if config.fusion is None:
        return config
    return replace(config, fusion=None, network=replace(config.network, fusion=config.fusion))


def _check(config: Config) -> None:
    if config.network.exportable:
        raise UserError("--network.exportable takes no mask; use the native network (leave it out).")
    refuse_prior(config.network)
    if config.network.mask == "none":
        raise UserError("--network.mask none: images are made of masks; give channels or spade.")
    if config.autoencoder is not None and (config.patch or config.dims == 3 or len(config.image_size) == 3):
        raise UserError("--autoencoder takes whole 2-D images; leave it out, or leave out --patch and --dims 3.")
    check_shift(config.shift, config.autoencoder is not None)


def _with_autoencoder(config: Config, prepared: "Prepared") -> "tuple[Prepared, KLAutoencoder | None]":
    """The autoencoder, and the data in the channels that it takes."""
    from medloom.generators.preparation import with_channels
    from medloom.recipes.autoencoder import find_autoencoder

    if config.autoencoder is None:
        return prepared, None
    autoencoder = find_autoencoder(Path(config.autoencoder), prepared)
    return with_channels(prepared, autoencoder.image_channels), autoencoder


def _generator(
    config: Config, prepared: "Prepared", masks: "MaskSpec", autoencoder: "KLAutoencoder | None", shown: bool
) -> "DiffusionGenerator":
    from medloom.generators.diffusion.build import build_generator
    from medloom.recipes.conditioned import corpus_text, measured_columns, modalities_and_views, say_missing
    from medloom.recipes.text_encoder import find_text_encoder

    conditions = [sample.condition for sample in prepared.train.samples]
    say_missing(conditions, shown)
    generator = build_generator(
        prepared.spec,
        [corpus_text(condition) for condition in conditions],
        *modalities_and_views(prepared),
        measured_columns(config.table, config.data, prepared),
        autoencoder,
        _fitted(config.network, prepared.spec.size, masks, autoencoder is not None),
        find_text_encoder(config.text, prepared),
        config.noise,
        config.loop.seed,
    )
    generator.masks = masks
    generator.reads_text = generator.takes_text and any(condition.text for condition in conditions)
    return generator


def _fitted(network: NetworkOptions, size: tuple[int, ...], masks: "MaskSpec", latent: bool) -> NetworkOptions:
    """The network for the masks' classes, with the patch that was left open."""
    fitted = replace(network, mask_classes=masks.told)
    if network.patch:
        return fitted
    if latent:
        return replace(fitted, patch=1)
    dims = len(size)
    fold = 1
    while math.prod(size) > CELLS[dims] * fold**dims and all(length % (2 * fold) == 0 for length in size):
        fold *= 2
    return replace(fitted, patch=fold)


def _task(
    config: Config, prepared: "Prepared", generator: "DiffusionGenerator", accelerator: "Accelerator"
) -> "DiffusionTask":
    from medloom.generators.caches import Caches
    from medloom.generators.diffusion.objective import Objective
    from medloom.generators.diffusion.task import DiffusionTask
    from medloom.recipes.conditioned import renderer
    from medloom.recipes.wholes import patch_renderer, rules_of

    rules = rules_of(config, prepared.spec)
    caches = Caches(config.cache or config.out / "cache", config.skip_bad, generator, accelerator, rules)
    data = replace(caches.data(prepared.train), shift=config.shift)
    validation = caches.data(prepared.validation)
    batch = config.loop.batch // config.loop.accumulate
    drawn = validation if validation.usable else data
    return DiffusionTask(
        generator,
        data,
        validation,
        config.loop,
        config.text.dropout,
        accelerator.device,
        renderer(prepared, masked=True) if rules is None else patch_renderer(drawn, config.loop.seed, batch),
        config.text.rate,
        Objective(config.noise.loss, config.network.mask_balance, config.network.mask_means),
    )


def _finish(config: Config, generator: "DiffusionGenerator", prepared: "Prepared") -> None:
    from medloom.core.progress import say
    from medloom.generators.model_card import write_card

    write_card(config.out, generator.spec, len(prepared.train.samples), config.loop.steps)
    say(f"trained: {config.out}. Generate with: medloom generate --model {config.out} --data MANIFEST --out DIR")
