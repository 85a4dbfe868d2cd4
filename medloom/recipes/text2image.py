"""`medloom train text2image`: from a table of images and texts to a generator."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.generators.diffusion.options import NetworkOptions, NoiseOptions, TextOptions
from medloom.recipes.preparation import DataOptions
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from medloom.core.table_column import TableColumn
    from medloom.generators.diffusion.generator import DiffusionGenerator
    from medloom.networks.autoencoder import KLAutoencoder
    from medloom.recipes.preparation import Prepared

# Folded pixels of an axis that the network sees at its first resolution, where --network.patch is left to us.
GRID = 32
FIXED_CONDITIONS = 16


@dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    """Train a text-to-image diffusion generator.

    Attributes:
        data: manifest with path, Text and modality.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (64 px, minutes on a laptop's CPU), small (128 px, one consumer GPU), base (512 px).
        preset: a published system's settings: minim, minim-predecessor.
        base: Stable Diffusion 1.x or 2.x to start from: a folder or hub id; it decides the network's shape, the noise
            schedule and the prediction, and brings its text encoder unless another is named.
        lora: rank of low-rank updates of the base, in place of training all of it.
        autoencoder: run folder of `train autoencoder`, or a diffusers folder with one, for latent diffusion.
        from_run: run to continue from with this manifest, which may add modalities; its networks, text encoder and
            noising process are kept (`--from`).
        table: clinical columns that the model is told directly, as numbers and categories, beside the text; a template
            beside the manifest says how their cells are read.
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
    network: NetworkOptions = field(default_factory=NetworkOptions)
    text: TextOptions = field(default_factory=TextOptions)
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    cache: Path | None = None
    device: str = "auto"


def run(config: Config) -> Path:
    """Train; returns the run folder.

    Raises:
        UserError: see the errors of each step below.
    """
    from medloom.core.progress import say
    from medloom.generators.diffusion.task import DiffusionTask
    from medloom.recipes.caches import Caches
    from medloom.recipes.preparation import nothing_left, prepare, start_run
    from medloom.training.loop import finished_steps, make_accelerator, train

    _check(config)
    # Without cross-attention the text's tokens go nowhere; only its pooled vector does.
    some_unused = config.network.fusion != "cross-attention"
    accelerator = make_accelerator(config.loop, config.device, some_unused)
    shown = accelerator.is_main_process
    known = _load_previous(config)
    prepared = prepare(config.data, config, config.loop.seed, shown, known.spec if known else None)
    prepared, autoencoder = _with_autoencoder(config, prepared, known)
    generator = _generator(config, prepared, autoencoder, known)
    prepared = _readable(prepared, generator, config, shown)
    fresh = start_run(config.out, "diffusion", _index(generator), config, prepared, accelerator, _parents(config))
    if finished_steps(config.out) >= config.loop.steps:
        if shown:
            say(f"{config.out} is finished: {config.loop.steps} steps. Generate with --model {config.out}.")
        return config.out
    generator.to(accelerator.device)
    caches = Caches(config.cache or config.out / "cache", config.skip_bad, generator, accelerator)
    with nothing_left(config.out, fresh and shown):
        data, validation = caches.data(prepared.train), caches.data(prepared.validation)
    task = DiffusionTask(
        generator,
        data,
        validation,
        config.loop,
        config.text.dropout,
        accelerator.device,
        _renderer(prepared),
        config.text.rate,
        config.network.mask_balance,
    )
    train(task, config.loop, config.out, accelerator)
    if shown:
        _finish(config, generator, prepared)
    return config.out


def _check(config: Config) -> None:
    if config.lora is not None and config.base is None:
        raise UserError("--lora needs --base, the Stable Diffusion model that it adapts.")
    if config.base is not None and config.from_run is not None:
        raise UserError("--base and --from exclude each other: a run that is continued has its own weights.")
    if config.base is not None and config.autoencoder is not None:
        raise UserError("--base and --autoencoder exclude each other: a base brings its own autoencoder.")


def _load_previous(config: Config) -> "DiffusionGenerator | None":
    if config.from_run is None:
        return None
    from medloom.generators.diffusion.storage import load_generator
    from medloom.generators.run_folder import open_run

    return load_generator(open_run(config.from_run, ("diffusion",), "--from").model)


def _with_autoencoder(
    config: Config, prepared: "Prepared", known: "DiffusionGenerator | None"
) -> "tuple[Prepared, KLAutoencoder | None]":
    """The autoencoder, and the data in the channels that it takes."""
    from medloom.generators.diffusion.build import locate_base
    from medloom.networks.autoencoder import load_autoencoder
    from medloom.recipes.autoencoder import find_autoencoder
    from medloom.recipes.preparation import with_channels

    if known is not None:
        return prepared, known.autoencoder
    if config.base is not None:
        autoencoder = load_autoencoder(locate_base(config.base) / "vae")
    elif config.autoencoder is not None:
        autoencoder = find_autoencoder(Path(config.autoencoder), prepared)
    else:
        return prepared, None
    return with_channels(prepared, autoencoder.image_channels), autoencoder


def _generator(
    config: Config,
    prepared: "Prepared",
    autoencoder: "KLAutoencoder | None",
    known: "DiffusionGenerator | None",
) -> "DiffusionGenerator":
    from medloom.generators.diffusion.build import build_generator, from_stable_diffusion
    from medloom.generators.diffusion.extend import extend_generator

    conditions = [sample.condition for sample in prepared.train.samples]
    modalities = sorted({condition.modality for condition in conditions if condition.modality})
    views = sorted({condition.view for condition in conditions if condition.view})
    if known is not None:
        return extend_generator(known, prepared.spec, modalities, views)
    if config.base is not None:
        options = (config.network, config.text, config.noise)
        return from_stable_diffusion(config.base, prepared.spec, *options, config.lora, config.loop.seed)
    corpus = [f"{condition.modality}: {condition.text}" for condition in conditions]
    return build_generator(
        prepared.spec,
        corpus,
        modalities,
        views,
        _columns(config, prepared),
        autoencoder,
        _fitted(config.network, prepared.spec.size, autoencoder is not None),
        config.text,
        config.noise,
        config.loop.seed,
    )


def _columns(config: Config, prepared: "Prepared") -> "tuple[TableColumn, ...]":
    """The columns of --table, as the training rows have them."""
    from medloom.data.prompts import read_template, template_beside
    from medloom.data.table_columns import measure_columns

    beside = template_beside(config.data)
    template = read_template(beside) if config.table and beside is not None else None
    return measure_columns(config.table, prepared.train.samples, template, str(config.data))


def _readable(prepared: "Prepared", generator: "DiffusionGenerator", config: Config, shown: bool) -> "Prepared":
    """The data less the validation rows whose table holds what no training row has.

    Raises:
        UserError: a training row with such a table, in a run that goes on from another.
    """
    from medloom.core.progress import say

    if generator.model.condition is None:
        return prepared
    reasons = [generator.table_refusal(sample.condition) for sample in prepared.train.samples]
    for sample, reason in zip(prepared.train.samples, reasons, strict=True):
        if reason is not None:
            raise UserError(f"{config.data}, line {sample.line}: {reason}")
    source = prepared.validation
    kept = [sample for sample in source.samples if generator.table_refusal(sample.condition) is None]
    if len(kept) == len(source.samples):
        return prepared
    if shown:
        say(f"{len(source.samples) - len(kept)} validation rows are not used: their table has values new to training.")
    key = {**source.key, "lines": [sample.line for sample in kept]}
    return replace(prepared, validation=replace(source, samples=kept, key=key))


def _fitted(network: NetworkOptions, size: tuple[int, ...], latent: bool) -> NetworkOptions:
    """The network options with the patch that was left open."""
    if network.patch:
        return network
    return replace(network, patch=1 if latent else max(1, min(size) // GRID))


def _index(generator: "DiffusionGenerator") -> dict[str, Any]:
    from medloom.generators.diffusion.storage import EXPORTER

    model = generator.model
    components = {"text": model.text.model, "condition": model.condition, "denoiser": model.denoiser}
    if generator.autoencoder is not None:
        components["autoencoder"] = generator.autoencoder.vae
    return {
        "components": {name: type(part).__name__ for name, part in components.items() if part is not None},
        "exporter": EXPORTER if generator.exportable else None,
    }


def _parents(config: Config) -> list[Path]:
    """The run folders that this run starts from."""
    from medloom.generators.run_folder import RUN

    named = [config.from_run, Path(config.autoencoder) if config.autoencoder else None]
    return [path for path in named if path is not None and (path / RUN).is_file()]


def _renderer(prepared: "Prepared") -> "Callable[[DiffusionGenerator, Path, int], None]":
    """Draws the same held-out conditions with the same seeds at each validation."""
    source = prepared.validation if prepared.validation.samples else prepared.train
    from medloom.recipes.preparation import spread

    chosen = spread(source.samples, [str(sample.condition.modality) for sample in source.samples], FIXED_CONDITIONS)

    def render(generator: "DiffusionGenerator", out: Path, step: int) -> None:
        from medloom.core.pictures import save_grid

        conditions = [source.samples[index].condition for index in chosen]
        images = generator.generate(conditions, range(len(chosen)), read_mask=source.label_map)
        save_grid(out / f"step-{step:08d}.png", list(images.numpy()), 4, f"after {step} steps")

    return render


def _finish(config: Config, generator: "DiffusionGenerator", prepared: "Prepared") -> None:
    from medloom.core.progress import say
    from medloom.generators.model_card import write_card

    write_card(config.out, generator.spec, len(prepared.train.samples), config.loop.steps)
    say(f"trained: {config.out}. Generate with: medloom generate --model {config.out} --out DIR --prompt ...")
