"""What the recipes that train a diffusion generator from texts share: options, networks, and the run as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.generators.diffusion.options import NetworkOptions, NoiseOptions, TextOptions
from medloom.generators.preparation import DataOptions, check_shift
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from medloom.data.dataset import ImageSource
    from medloom.generators.diffusion.generator import DiffusionGenerator
    from medloom.generators.diffusion.task import DiffusionTask
    from medloom.generators.preparation import Prepared
    from medloom.networks.autoencoder import KLAutoencoder

# Folded pixels of an axis that the network sees at its first resolution, where --network.patch is left to us.
GRID = 32
FAMILY = "diffusion"


@dataclass(frozen=True, kw_only=True)
class DiffusionOptions(DataOptions):
    """A diffusion generator that is trained from texts.

    Attributes:
        data: manifest.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (64 px, minutes on a laptop's CPU), small (128 px, one consumer GPU), base (512 px).
        preset: a published system's settings.
        base: Stable Diffusion 1.x or 2.x to start from: a folder or hub id; it decides the network's shape, the noise
            schedule and the prediction, and brings its text encoder unless another is named.
        lora: rank of low-rank updates of the base, in place of training all of it.
        autoencoder: run folder of `train autoencoder`, or a diffusers folder with one, for latent diffusion.
        from_run: run to continue from with this manifest, which may add modalities; its networks, text encoder and
            noising process are kept (`--from`).
        table: clinical columns that the model is told directly, as numbers and categories, beside the text; a template
            beside the manifest says how their cells are read.
        shift: pixels by which training images and their masks are shifted at most along each axis, each time anew, so
            that a small data set is not learnt by heart.
        network: the denoiser.
        text: the text encoder and how the modality is told.
        noise: the noising process.
        loop: the training loop.
        cache: folder for decoded images, latents and embeddings (default: in the run folder).
        device: auto, cpu or cuda.
    """

    data: Path
    out: Path
    size: str = "tiny"
    preset: str | None = None
    base: str | None = None
    lora: int | None = None
    autoencoder: str | None = None
    from_run: Path | None = None
    table: tuple[str, ...] = ()
    shift: int = 0
    network: NetworkOptions = field(default_factory=NetworkOptions)
    text: TextOptions = field(default_factory=TextOptions)
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    cache: Path | None = None
    device: str = "auto"


def train_diffusion(
    config: DiffusionOptions, need: Sequence[str], use: str, as_is: float = 1.0, empty_priors: bool = False
) -> Path:
    """Train; returns the run folder.

    Args:
        config: the recipe's options.
        need: standard columns that the manifest must have.
        use: the command that uses the run, for the user.
        as_is: share of draws of earlier images that take them as they are, where registered ones are there too.
        empty_priors: leave earlier images out.

    Raises:
        UserError: see the errors of each step below.
    """
    from medloom.core.progress import say
    from medloom.generators.leakage import runs_among
    from medloom.generators.preparation import hu_window, nothing_left, prepare, start_run, with_masks
    from medloom.recipes.autoencoder import known_space
    from medloom.recipes.conditioned import diffusion_index, readable
    from medloom.training.loop import finished_steps, make_accelerator, train

    _check(config)
    # Without cross-attention the text's tokens go nowhere; only its pooled vector does.
    some_unused = config.network.fusion != "cross-attention"
    accelerator = make_accelerator(config.loop, config.device, some_unused)
    shown = accelerator.is_main_process
    known = _load_previous(config)
    space = known.spec if known else known_space(config.autoencoder, "--autoencoder")
    config = replace(config, hu_window=hu_window(config, space))
    prepared = prepare(config.data, config, config.loop.seed, shown, known.spec if known else None, tuple(need))
    prepared = _without_priors(prepared) if empty_priors else prepared
    _check_texts(config, prepared, shown)
    prepared, autoencoder = with_autoencoder(config, prepared, known)
    generator = fresh_generator(config, prepared, autoencoder, known)
    check_shift(config.shift, generator.autoencoder is not None)
    prepared = with_masks(readable(prepared, generator, config.data, shown), generator.masks)
    parents = runs_among(config.from_run, config.autoencoder, config.text.encoder)
    fresh = start_run(config.out, FAMILY, diffusion_index(generator), config, prepared, accelerator, parents)
    if finished_steps(config.out) >= config.loop.steps:
        if shown:
            say(f"{config.out} is finished: {config.loop.steps} steps. Go on with: {use.format(config.out)}")
        return config.out
    with nothing_left(config.out, fresh and shown):
        task = _task(config, prepared, generator.to(accelerator.device), accelerator, as_is)
    train(task, config.loop, config.out, accelerator)
    if shown:
        _finish(config, generator, prepared, use)
    return config.out


def _task(
    config: DiffusionOptions,
    prepared: "Prepared",
    generator: "DiffusionGenerator",
    accelerator: "Accelerator",
    as_is: float,
) -> "DiffusionTask":
    from medloom.generators.caches import Caches
    from medloom.generators.diffusion.objective import Objective
    from medloom.generators.diffusion.task import DiffusionTask
    from medloom.recipes.conditioned import renderer

    caches = Caches(config.cache or config.out / "cache", config.skip_bad, generator, accelerator, as_is=as_is)
    return DiffusionTask(
        generator,
        replace(caches.data(prepared.train), shift=config.shift),
        caches.data(prepared.validation),
        config.loop,
        config.text.dropout,
        accelerator.device,
        renderer(prepared),
        config.text.rate,
        Objective(config.noise.loss, config.network.mask_balance, config.network.mask_means),
    )


def _check(config: DiffusionOptions) -> None:
    if config.lora is not None and config.base is None:
        raise UserError("--lora needs --base, the Stable Diffusion model that it adapts.")
    if config.base is not None and config.from_run is not None:
        raise UserError("--base and --from exclude each other: a run that is continued has its own weights.")
    if config.base is not None and config.autoencoder is not None:
        raise UserError("--base and --autoencoder exclude each other: a base brings its own autoencoder.")
    check_shift(config.shift)
    if config.network.mask != "none" and not config.network.mask_classes:
        raise UserError("--network.mask needs --network.mask-classes, the labels in the masks (e.g. 255).")


def _without_priors(prepared: "Prepared") -> "Prepared":
    """The data with no earlier images."""

    def bare(source: "ImageSource") -> "ImageSource":
        samples = [
            replace(sample, condition=replace(sample.condition, prior=None), registered_prior=None)
            for sample in source.samples
        ]
        return replace(source, samples=samples)

    return replace(prepared, train=bare(prepared.train), validation=bare(prepared.validation))


def _check_texts(config: DiffusionOptions, prepared: "Prepared", shown: bool) -> None:
    """Say how many training images have no text; refuse a manifest without any.

    Raises:
        UserError: no row has a text or an instruction.
    """
    from medloom.core.progress import say

    texts = [sample.condition.text for sample in prepared.train.samples]
    without = sum(not text for text in texts)
    if without == len(texts):
        raise UserError(f"{config.data}: no row has a text or instruction; name the column with --columns text=NAME.")
    if without and shown:
        say(f"{without} of {len(texts)} training images have no text; they are used without it.")


def _load_previous(config: DiffusionOptions) -> "DiffusionGenerator | None":
    if config.from_run is None:
        return None
    from medloom.generators.diffusion.storage import load_generator
    from medloom.generators.run_folder import open_run

    known = load_generator(open_run(config.from_run, ("diffusion",), "--from").model)
    if bool(known.model.prior_channels) != (config.network.prior != "none"):
        kind = "an editor" if known.model.prior_channels else "no editor"
        raise UserError(f"--from {config.from_run} is {kind}; go on from it with the command that trained it.")
    return known


def with_autoencoder(
    config: DiffusionOptions, prepared: "Prepared", known: "DiffusionGenerator | None"
) -> "tuple[Prepared, KLAutoencoder | None]":
    """The autoencoder, and the data in the channels that it takes."""
    from medloom.generators.diffusion.build import locate_base
    from medloom.generators.preparation import with_channels
    from medloom.networks.autoencoder import load_autoencoder
    from medloom.recipes.autoencoder import find_autoencoder

    if known is not None:
        return prepared, known.autoencoder
    if config.base is not None:
        autoencoder = load_autoencoder(locate_base(config.base) / "vae")
    elif config.autoencoder is not None:
        autoencoder = find_autoencoder(Path(config.autoencoder), prepared)
    else:
        return prepared, None
    return with_channels(prepared, autoencoder.image_channels), autoencoder


def fresh_generator(
    config: DiffusionOptions,
    prepared: "Prepared",
    autoencoder: "KLAutoencoder | None",
    known: "DiffusionGenerator | None",
) -> "DiffusionGenerator":
    """The generator that training starts from: fresh, of a base, or that of a run that is continued.

    Raises:
        UserError: options that exclude each other, or weights that do not fit.
    """
    from medloom.generators.diffusion.build import build_generator, from_stable_diffusion
    from medloom.generators.diffusion.extend import extend_generator
    from medloom.recipes.conditioned import corpus_text, measured_columns, modalities_and_views
    from medloom.recipes.text_encoder import find_text_encoder

    conditions = [sample.condition for sample in prepared.train.samples]
    modalities, views = modalities_and_views(prepared)
    if known is not None:
        return extend_generator(known, prepared.spec, modalities, views)
    text = find_text_encoder(config.text, prepared)
    if config.base is not None:
        options = (config.network, text, config.noise)
        return from_stable_diffusion(config.base, prepared.spec, *options, config.lora, config.loop.seed)
    corpus = [corpus_text(condition) for condition in conditions]
    return build_generator(
        prepared.spec,
        corpus,
        modalities,
        views,
        measured_columns(config.table, config.data, prepared),
        autoencoder,
        _fitted(config.network, prepared.spec.size, autoencoder is not None),
        text,
        config.noise,
        config.loop.seed,
    )


def _fitted(network: NetworkOptions, size: tuple[int, ...], latent: bool) -> NetworkOptions:
    """The network options with the patch that was left open."""
    if network.patch:
        return network
    return replace(network, patch=1 if latent else max(1, min(size) // GRID))


def _finish(config: DiffusionOptions, generator: "DiffusionGenerator", prepared: "Prepared", use: str) -> None:
    from medloom.core.progress import say
    from medloom.generators.model_card import write_card

    write_card(config.out, generator.spec, len(prepared.train.samples), config.loop.steps)
    say(f"trained: {config.out}. Go on with: {use.format(config.out)}")
