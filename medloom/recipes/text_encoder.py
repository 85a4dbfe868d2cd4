"""`medloom train text-encoder`: a text encoder from pairs of images and texts, for generators to read with."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.generators.contrastive.options import EncoderOptions
from medloom.generators.preparation import DataOptions
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from medloom.data.dataset import ImageSource
    from medloom.generators.contrastive.task import ContrastiveTask, PairData
    from medloom.generators.diffusion.options import TextOptions
    from medloom.generators.preparation import Prepared
    from medloom.networks.text import TextEncoder

FAMILY = "text-encoder"


@dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    """Train a text encoder to tell which text belongs to which image.

    Attributes:
        data: manifest with path and Text.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (a laptop's CPU), small (one consumer GPU), base (several GPUs).
        encoder: the text encoder and the image encoder beside it.
        loop: the training loop; an image has as many texts to tell apart as the batch has.
        cache: folder for decoded images (default: in the run folder).
        device: auto, cpu or cuda.
    """

    data: Path
    out: Path
    size: str = "tiny"
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    cache: Path | None = None
    device: str = "auto"


def run(config: Config) -> Path:
    """Train; returns the run folder.

    Raises:
        UserError: see the errors of each step below.
    """
    from medloom.core.progress import say
    from medloom.generators.preparation import nothing_left, prepare, start_run
    from medloom.training.loop import finished_steps, make_accelerator, train

    accelerator = make_accelerator(config.loop, config.device)
    shown = accelerator.is_main_process
    prepared = prepare(config.data, config, config.loop.seed, shown)
    _require_texts(config.data, prepared)
    _require_size(config, prepared)
    text = _text_encoder(config, prepared)
    index = {"components": {"text_encoder": type(text.model).__name__}, "exporter": "transformers.CLIPTextModel"}
    fresh = start_run(config.out, FAMILY, index, config, prepared, accelerator)
    if finished_steps(config.out) >= config.loop.steps:
        if shown:
            say(f"{config.out} is finished: {config.loop.steps} steps. {_use(config)}")
        return config.out
    with nothing_left(config.out, fresh and shown):
        task = _task(config, prepared, text, accelerator)
    train(task, config.loop, config.out, accelerator)
    if shown:
        _finish(config, prepared, task)
    accelerator.wait_for_everyone()
    return config.out


def _require_texts(data: Path, prepared: "Prepared") -> None:
    texts = {sample.condition.text for sample in prepared.train.samples if sample.condition.text}
    if len(texts) < 2:
        raise UserError(f"{data}: the training images have {len(texts)} different texts; there have to be two or more.")


def _require_size(config: Config, prepared: "Prepared") -> None:
    halved, size = 2 ** len(config.encoder.image_widths), prepared.spec.size
    if min(size) < halved:
        raise UserError(
            f"--image-size {' '.join(map(str, size))}: {len(config.encoder.image_widths)} --encoder.image-widths halve"
            f" images of at least {halved} pixels; give larger images or fewer widths."
        )


def _text_encoder(config: Config, prepared: "Prepared") -> "TextEncoder":
    from medloom.core.initialize import initial_weights
    from medloom.networks.local_text import make_text_model, train_tokenizer
    from medloom.networks.text import TextEncoder

    options = config.encoder
    corpus = [sample.condition.text for sample in prepared.train.samples if sample.condition.text]
    with initial_weights(config.loop.seed, "text"):
        tokenizer = train_tokenizer(corpus, options.vocabulary, options.max_tokens)
        model = make_text_model(tokenizer, options.width, options.layers, options.max_tokens)
    return TextEncoder(tokenizer, model, options.max_tokens)


def _task(config: Config, prepared: "Prepared", text: "TextEncoder", accelerator: "Accelerator") -> "ContrastiveTask":
    from medloom.core.initialize import initial_weights
    from medloom.generators.contrastive.pairs import JointConfig, JointSpace, PairEncoder
    from medloom.generators.contrastive.task import ContrastiveTask

    spec, shown = prepared.spec, accelerator.is_main_process
    # The main process fills the cache, the others wait and read it.
    with accelerator.main_process_first():
        data, validation = (_pairs(config, source, text, shown) for source in (prepared.train, prepared.validation))
    options = config.encoder
    shape = JointConfig(
        spec.spatial_dims, spec.channels, options.image_widths, text.width, options.joint, options.temperature
    )
    with initial_weights(config.loop.seed, "joint"):
        pairs = PairEncoder(text, JointSpace(shape)).to(accelerator.device)
    return ContrastiveTask(pairs, data, validation, config.loop, accelerator.device)


def _pairs(config: Config, source: "ImageSource", text: "TextEncoder", shown: bool) -> "PairData":
    """The rows that have a text."""
    from medloom.data.dataset import cached_usable_images
    from medloom.generators.contrastive.task import PairData
    from medloom.generators.diffusion.latents import token_ids

    images, usable = cached_usable_images(source, config.cache or config.out / "cache", config.skip_bad, shown)
    texts = [sample.condition.text or "" for sample in source.samples]
    return PairData(images, texts, token_ids(text, texts, shown), [row for row in usable if texts[row]])


def _finish(config: Config, prepared: "Prepared", task: "ContrastiveTask") -> None:
    from medloom.core.progress import say
    from medloom.generators.contrastive.pairs import PairEncoder
    from medloom.generators.contrastive.task import retrieval
    from medloom.generators.model_card import write_card
    from medloom.generators.run_folder import MODEL

    write_card(config.out, prepared.spec, len(task.data.usable), config.loop.steps)
    saved = PairEncoder.load(config.out / MODEL, config.encoder.max_tokens).to(task.device).eval()
    if figures := retrieval(saved, task.validation, task.device):
        say(f"held-out images find their text in {figures['found']:.1%}, by chance in {figures['chance']:.1%}.")
    say(f"trained: {config.out}. {_use(config)}")


def _use(config: Config) -> str:
    return f"Use it with: medloom train text2image --text.encoder {config.out} --data MANIFEST --out RUN"


def find_text_encoder(text: "TextOptions", prepared: "Prepared") -> "TextOptions":
    """The options of a generator's text, with the model's folder where `encoder` names a run of this recipe.

    Args:
        text: the options.
        prepared: the generator's data.

    Raises:
        UserError: a run of another kind, one without a model, or one trained on patients of the data's test set.
    """
    from medloom.generators.leakage import refuse_seen_parent
    from medloom.generators.run_folder import INDEX, open_run

    path = Path(text.encoder)
    if not (path / INDEX).is_file():
        return text
    found = open_run(path, (FAMILY,), "--text.encoder")
    refuse_seen_parent(found, prepared, "text encoder")
    return replace(text, encoder=str(found.model))
