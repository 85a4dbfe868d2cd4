"""`medloom train tokens`: from a table of images and texts to a generator that decodes tokens in a few steps."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.generators.diffusion.options import TextOptions
from medloom.generators.preparation import UNREGISTERED, DataOptions, check_unregistered
from medloom.generators.tokens.options import NetworkOptions, TokenOptions
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from medloom.core.mask_spec import MaskSpec
    from medloom.core.spec import ImageSpec
    from medloom.data.dataset import ImageSource
    from medloom.generators.preparation import Prepared
    from medloom.generators.tokens.generator import TokenGenerator
    from medloom.generators.tokens.task import TokenTask
    from medloom.networks.tokenizer import Tokeniser

FAMILY = "tokens"
# Where neither a tokenizer nor --image-size says it.
DEFAULT_SIZE = (64,)


@dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    """Train a masked transformer on the tokens of images, conditioned by text, table, mask or an earlier image.

    Attributes:
        data: manifest with path; Text, modality, mask, prior and a clinical table where there are any.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (minutes on a laptop's CPU), small (one consumer GPU), base (several GPUs).
        preset: a published system's settings: raygen.
        tokenizer: run folder of `medloom train autoencoder --kind vq`, or a diffusers folder with a VQModel.
        image_size: pixels of each axis (default: the tokenizer's).
        from_run: run to go on from (`--from`), with a manifest that may add modalities, and with its tokenizer or one
            that was trained from that, also for images of another size; with --upscale, the run of the first stage.
        upscale: train the second stage of two: --tokenizer is that of larger images, which are decoded given the tokens
            that the first stage decodes.
        table: clinical columns that the model is told directly, as numbers and categories, beside the text; a template
            beside the manifest says how their cells are read.
        network: the transformer.
        text: the text encoder and how the modality is told.
        tokens: mask schedule and loss.
        unregistered: share of draws that take the earlier image as it is, where the manifest has registered ones too
            (default: 0.5).
        loop: the training loop.
        cache: folder for tokens and embeddings (default: in the run folder).
        device: auto, cpu or cuda.
    """

    data: Path
    out: Path
    tokenizer: Path
    size: str = "tiny"
    preset: str | None = None
    image_size: tuple[int, ...] = ()
    from_run: Path | None = None
    upscale: bool = False
    table: tuple[str, ...] = ()
    network: NetworkOptions = field(default_factory=NetworkOptions)
    text: TextOptions = field(default_factory=TextOptions)
    tokens: TokenOptions = field(default_factory=TokenOptions)
    unregistered: float | None = None
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
    from medloom.generators.preparation import (
        hu_window,
        nothing_left,
        prepare,
        start_run,
        with_channels,
        with_masks,
    )
    from medloom.recipes.autoencoder import find_tokeniser
    from medloom.recipes.conditioned import readable
    from medloom.training.loop import finished_steps, make_accelerator, train

    check_unregistered(_unregistered(config))
    known_run = _previous(config)
    first = known_run if config.upscale else None
    # Without cross-attention the text's tokens go nowhere; only its pooled vector does.
    accelerator = make_accelerator(config.loop, config.device, config.network.fusion != "cross-attention")
    shown = accelerator.is_main_process
    known = _space(config)
    config = replace(config, hu_window=hu_window(config, known))
    options = replace(config, image_size=known.size if known else config.image_size or DEFAULT_SIZE)
    prepared = prepare(config.data, options, config.loop.seed, shown, known, _need(config))
    tokeniser = find_tokeniser(config.tokenizer, prepared)
    prepared = with_channels(prepared, tokeniser.image_channels)
    masks = _masks(config)
    prepared = with_masks(prepared, masks)
    if known_run is not None and not config.upscale:
        generator = _grown(config, prepared, tokeniser, known_run)
    else:
        generator = _generator(config, prepared, masks, tokeniser, first, shown)
    prepared = readable(prepared, generator, config.data, shown)
    parents = runs_among(config.from_run, config.tokenizer, config.text.encoder)
    fresh = start_run(config.out, FAMILY, _index(generator), config, prepared, accelerator, parents)
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


def _unregistered(config: Config) -> float:
    """Not said in the options, so that runs from before there was a choice go on."""
    return UNREGISTERED if config.unregistered is None else config.unregistered


def _need(config: Config) -> tuple[str, ...]:
    """Columns that the manifest must have."""
    parts = {"mask": config.network.mask, "prior": config.network.prior}
    return ("path", *(name for name, way in parts.items() if way != "none"))


def _previous(config: Config) -> "TokenGenerator | None":
    """The generator to go on from, or the first stage of two.

    Raises:
        UserError: it is not there, is missing for --upscale, or is a second stage.
    """
    from medloom.generators.run_folder import open_run
    from medloom.generators.tokens.storage import load_generator

    if config.upscale and config.from_run is None:
        raise UserError("--upscale needs --from RUN: a second stage is trained for the tokens of a first one.")
    if config.from_run is None:
        return None
    if config.upscale and config.network.prior != "none":
        raise UserError("--upscale: a second stage takes no earlier image; edit with a model of one stage.")
    known = load_generator(open_run(config.from_run, (FAMILY,), "--from").model)
    if known.first is not None:
        raise UserError(f"--from {config.from_run} is a second stage; give the run of a first one.")
    return known


def _grown(config: Config, prepared: "Prepared", tokeniser: "Tokeniser", known: "TokenGenerator") -> "TokenGenerator":
    """The generator of a run that is gone on from, for these data.

    Raises:
        UserError: data or options that it cannot go on with.
    """
    from medloom.generators.tokens.build import transformer_config
    from medloom.generators.tokens.extend import extend_generator
    from medloom.recipes.conditioned import modalities_and_views

    told = [column.name for column in known.model.condition.config.columns]
    if config.table and list(config.table) != told:
        raise UserError(
            f"--table {' '.join(config.table)}: the run of --from is told {', '.join(told) or 'no columns'};"
            " give the same ones, or leave it out."
        )
    classes = config.network.mask_classes if config.network.mask != "none" else ()
    if tuple(classes) != tuple(known.model.mask_classes):
        known_classes = " ".join(map(str, known.model.mask_classes)) or "none"
        raise UserError(f"--network.mask-classes: those of the run of --from are {known_classes}; give the same ones.")
    network = transformer_config(config.network, tokeniser.grid(prepared.spec.size), tokeniser.codes)
    return extend_generator(known, prepared.spec, *modalities_and_views(prepared), tokeniser, network)


def _space(config: Config) -> "ImageSpec | None":
    """The image space of the tokenizer, or None where its folder does not say.

    Raises:
        UserError: --image-size asks for another one.
    """
    from medloom.recipes.autoencoder import known_space

    spec = known_space(config.tokenizer, "--tokenizer")
    if spec is None:
        return None
    wanted = config.image_size * len(spec.size) if len(config.image_size) == 1 else config.image_size
    if wanted and tuple(wanted) != spec.size:
        asked, has = (" x ".join(map(str, size)) for size in (wanted, spec.size))
        raise UserError(f"--image-size {asked}: the tokenizer {config.tokenizer} is of {has} pixels; leave it out.")
    return spec


def _masks(config: Config) -> "MaskSpec":
    """The classes of the masks that the model is told."""
    from medloom.core.mask_spec import MaskSpec, numbered

    return MaskSpec(numbered(config.network.mask_classes)) if config.network.mask != "none" else MaskSpec()


def _generator(
    config: Config,
    prepared: "Prepared",
    masks: "MaskSpec",
    tokeniser: "Tokeniser",
    first: "TokenGenerator | None",
    shown: bool,
) -> "TokenGenerator":
    from medloom.generators.tokens.build import build_generator
    from medloom.recipes.conditioned import corpus_text, measured_columns, modalities_and_views, say_missing
    from medloom.recipes.text_encoder import find_text_encoder

    conditions = [sample.condition for sample in prepared.train.samples]
    say_missing(conditions, shown, masked=config.network.mask != "none")
    generator = build_generator(
        prepared.spec,
        [corpus_text(condition) for condition in conditions],
        *modalities_and_views(prepared),
        measured_columns(config.table, config.data, prepared),
        tokeniser,
        config.network,
        find_text_encoder(config.text, prepared),
        config.loop.seed,
        any(condition.text for condition in conditions),
        first,
    )
    generator.masks = masks
    return generator


def _index(generator: "TokenGenerator") -> dict[str, Any]:
    model = generator.model
    parts = {
        "text": model.text.model,
        "condition": model.condition,
        "transformer": model.network,
        "tokenizer": generator.tokeniser.coder,
    }
    return {"components": {name: type(part).__name__ for name, part in parts.items()}, "exporter": None}


def _task(config: Config, prepared: "Prepared", generator: "TokenGenerator", accelerator: "Accelerator") -> "TokenTask":
    from medloom.generators.caches import Caches
    from medloom.generators.tokens.task import TokenTask
    from medloom.recipes.conditioned import renderer

    folder = config.cache or config.out / "cache"
    caches = Caches(folder, config.skip_bad, generator, accelerator, as_is=_unregistered(config))
    data, validation = caches.data(prepared.train), caches.data(prepared.validation)
    coarse = None
    if generator.first is not None:
        with accelerator.main_process_first():
            train, held = (
                _coarse(source, generator.first, folder, config.skip_bad, accelerator)
                for source in (prepared.train, prepared.validation)
            )
        coarse = (train, held)
    return TokenTask(
        generator,
        data,
        validation,
        config.loop,
        config.text.dropout,
        accelerator.device,
        renderer(prepared),
        config.text.rate,
        config.tokens,
        coarse,
    )


def _coarse(
    source: "ImageSource", first: "TokenGenerator", folder: Path, skip_bad: bool, accelerator: "Accelerator"
) -> "NDArray[np.int32]":
    """The tokens of the first stage of all rows, `(rows, *grid)`."""
    from medloom.generators.preparation import respecified
    from medloom.generators.tokens.cached_tokens import cached_tokens

    small, shown = respecified(source, first.spec), accelerator.is_main_process
    tokens, _ = cached_tokens(small, first.tokeniser, folder, accelerator.device, skip_bad, shown)
    return tokens[:, 0]


def _finish(config: Config, generator: "TokenGenerator", prepared: "Prepared") -> None:
    from medloom.core.progress import say
    from medloom.generators.model_card import write_card

    write_card(config.out, generator.spec, len(prepared.train.samples), config.loop.steps)
    say(f"trained: {config.out}. Generate with: medloom generate --model {config.out} --out DIR --prompt ...")
