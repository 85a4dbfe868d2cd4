"""`medloom train mask2image-gan`: from a table of images and masks to a conditional GAN."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.generators.diffusion.options import TextOptions
from medloom.generators.gan.options import GANOptions, NetworkOptions
from medloom.recipes.wholes import VolumeOptions
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from medloom.core.mask_spec import MaskSpec
    from medloom.generators.gan.generator import GANGenerator
    from medloom.generators.gan.objective import Objective
    from medloom.generators.gan.pairing import Pairing
    from medloom.generators.gan.task import GANTask
    from medloom.generators.preparation import Prepared
    from medloom.generators.training_data import TrainingData

FAMILY = "gan"
PAIRED = ("path", "mask")
# An image may then be without a mask.
UNPAIRED = ("path",)


@dataclass(frozen=True, kw_only=True)
class Config(VolumeOptions):
    """Train a conditional GAN that makes images of masks.

    Attributes:
        data: manifest with path and mask; Text and modality where there are any. With --gan.unpaired some rows may be
            without a mask.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (64 px, minutes on a laptop's CPU), small (128 px, one consumer GPU), base (256 px).
        preset: a published system's settings: dgm-vlc.
        fusion: how text, modality and table reach the network: affine (text and noise scale and shift features),
            cross-attention, or none.
        table: clinical columns that the model is told directly, as numbers and categories, beside the text; a template
            beside the manifest says how their cells are read.
        network: the network that makes images.
        text: the text encoder and how the modality is told.
        gan: the losses and the adversary.
        loop: the training loop.
        cache: folder for decoded images, masks and embeddings (default: in the run folder).
        device: auto, cpu or cuda.
    """

    data: Path
    out: Path
    size: str = "tiny"
    preset: str | None = None
    fusion: str = "affine"
    table: tuple[str, ...] = ()
    network: NetworkOptions = field(default_factory=NetworkOptions)
    text: TextOptions = field(default_factory=TextOptions)
    gan: GANOptions = field(default_factory=GANOptions)
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
    from medloom.generators.preparation import nothing_left, prepare, start_run, with_masks
    from medloom.recipes.conditioned import readable
    from medloom.recipes.wholes import masks_of, space_of
    from medloom.training.loop import finished_steps, make_accelerator, train

    _check(config)
    # A part of the text encoder has no way to the image by affine fusion, and none has with no fusion.
    accelerator = make_accelerator(config.loop, config.device, some_unused=True)
    shown = accelerator.is_main_process
    need = UNPAIRED if config.gan.unpaired else PAIRED
    prepared = prepare(config.data, config, config.loop.seed, shown, need=need, space=space_of(config))
    samples = [*prepared.train.samples, *prepared.validation.samples]
    masks = masks_of(config, samples, config.network.mask_classes, shown)
    prepared = with_masks(prepared, masks)
    generator = _generator(config, prepared, masks, shown)
    prepared = readable(prepared, generator, config.data, shown)
    pairing, objective = _training(config, generator, accelerator)
    parents = runs_among(config.text.encoder)
    fresh = start_run(config.out, FAMILY, _index(generator), config, prepared, accelerator, parents)
    if finished_steps(config.out) >= config.loop.steps:
        if shown:
            say(f"{config.out} is finished: {config.loop.steps} steps. Generate with --model {config.out}.")
        return config.out
    with nothing_left(config.out, fresh and shown):
        task = _task(config, prepared, generator, pairing, objective, accelerator)
    train(task, config.loop, config.out, accelerator)
    if shown:
        _finish(config, generator, prepared)
    return config.out


def _check(config: Config) -> None:
    from medloom.generators.gan.options import check_fusion

    check_fusion(config.fusion, config.network)
    if config.loop.compile and config.gan.adversarial and config.gan.r1:
        raise UserError("--loop.compile cannot follow the slope of R1; leave it out, or set --gan.r1 0.")


def _generator(config: Config, prepared: "Prepared", masks: "MaskSpec", shown: bool) -> "GANGenerator":
    from medloom.generators.gan.build import build_generator
    from medloom.recipes.conditioned import corpus_text, measured_columns, modalities_and_views, say_missing
    from medloom.recipes.text_encoder import find_text_encoder

    conditions = [sample.condition for sample in prepared.train.samples]
    say_missing(conditions, shown)
    generator = build_generator(
        prepared.spec,
        [corpus_text(condition) for condition in conditions],
        *modalities_and_views(prepared),
        measured_columns(config.table, config.data, prepared),
        masks.told,
        config.fusion,
        config.network,
        find_text_encoder(config.text, prepared),
        config.loop.seed,
        reads_text=any(condition.text for condition in conditions),
        needs_mask=config.gan.unpaired or (not config.text.dropout and all(condition.mask for condition in conditions)),
    )
    generator.masks = masks
    return generator


def _training(config: Config, generator: "GANGenerator", accelerator: "Accelerator") -> "tuple[Pairing, Objective]":
    """How images and masks meet, and the losses with the adversary."""
    from medloom.generators.gan.build import build_adversary, build_inverse
    from medloom.generators.gan.objective import Objective
    from medloom.generators.gan.pairing import Paired, Unpaired

    seed = config.loop.seed
    adversary = build_adversary(generator, config.gan, seed, accelerator.device)
    objective = Objective(config.gan, adversary)
    if not config.gan.unpaired:
        return Paired(generator, seed), objective
    return Unpaired(generator, seed, build_inverse(generator, config.network, seed)), objective


def _task(
    config: Config,
    prepared: "Prepared",
    generator: "GANGenerator",
    pairing: "Pairing",
    objective: "Objective",
    accelerator: "Accelerator",
) -> "GANTask":
    from medloom.generators.caches import Caches
    from medloom.generators.gan.task import GANTask
    from medloom.recipes.conditioned import renderer
    from medloom.recipes.wholes import patch_renderer, rules_of

    pairing.module.to(accelerator.device)
    rules = rules_of(config, prepared.spec)
    caches = Caches(config.cache or config.out / "cache", config.skip_bad, generator, accelerator, rules)
    data = replace(caches.data(prepared.train), shift=config.shift)
    validation = caches.data(prepared.validation)
    batch = config.loop.batch // config.loop.accumulate
    return GANTask(
        generator,
        pairing,
        objective,
        data,
        validation,
        config.loop,
        config.text.dropout,
        accelerator.device,
        renderer(prepared, masked=True)
        if rules is None
        else patch_renderer(_masked(validation) or _masked(data) or data, config.loop.seed, batch),
        config.text.rate,
    )


def _masked(data: "TrainingData") -> "TrainingData | None":
    """The rows with masks, or None where there are none."""
    usable = [row for row in data.usable if data.conditions[row].mask is not None]
    return replace(data, usable=usable) if usable else None


def _index(generator: "GANGenerator") -> dict[str, Any]:
    model = generator.model
    components = {"text": model.text.model, "condition": model.condition, "network": model.network}
    return {"components": {name: type(part).__name__ for name, part in components.items()}, "exporter": None}


def _finish(config: Config, generator: "GANGenerator", prepared: "Prepared") -> None:
    from medloom.core.progress import say
    from medloom.generators.model_card import write_card

    write_card(config.out, generator.spec, len(prepared.train.samples), config.loop.steps)
    say(f"trained: {config.out}. Generate with: medloom generate --model {config.out} --out DIR --data ...")
