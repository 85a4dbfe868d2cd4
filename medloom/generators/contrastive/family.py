"""Text encoders trained on pairs of images and texts, as the training program sees them."""

from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.core.seeds import initial_weights
from medloom.core.types import Task
from medloom.data.dataset import ImageSource, cached_usable_images
from medloom.generators.contrastive.options import EncodeTexts
from medloom.generators.contrastive.pairs import JointConfig, JointSpace, PairEncoder
from medloom.generators.contrastive.task import ContrastiveTask, PairData, retrieval
from medloom.generators.family import Family, Origin
from medloom.generators.preparation import Prepared
from medloom.generators.row_caches import token_ids
from medloom.generators.run_folder import Components
from medloom.networks.text import TextEncoder, make_text_model, train_tokenizer

if TYPE_CHECKING:
    from accelerate import Accelerator


class TextEncoderFamily(Family[EncodeTexts, "TextEncoder"]):
    """Contrastive text encoders."""

    name = "text-encoder"

    def origin(self, options: EncodeTexts) -> Origin:
        """Fresh weights."""
        return Origin()

    def build(
        self, options: EncodeTexts, data: Prepared, origin: Origin, verbose: bool
    ) -> tuple[Prepared, TextEncoder]:
        """A text encoder with a tokenizer of the training texts."""
        corpus = [sample.condition.text for sample in data.train.samples if sample.condition.text]
        if (distinct := len(set(corpus))) < 2:
            raise UserError(
                f"{options.data}: the training images have {distinct} different texts; there have to be two or more."
            )
        if min(options.loop.batch, len(data.train.samples)) < 2:
            raise UserError(
                f"--loop.batch {options.loop.batch} of {len(data.train.samples)} images: each image is compared with"
                " the texts of the others in its batch; there have to be two or more."
            )
        shape, size = options.encoder, data.spec.size
        if min(size) < 2 ** len(shape.image_widths):
            raise UserError(
                f"--image-size {' '.join(map(str, size))}: {len(shape.image_widths)} encoder.image_widths halve"
                f" images of at least {2 ** len(shape.image_widths)} pixels; give larger images or fewer widths."
            )
        with initial_weights(options.loop.seed, "text"):
            tokenizer = train_tokenizer(corpus, shape.vocabulary, shape.max_tokens)
            model = make_text_model(tokenizer, shape.width, shape.layers, shape.max_tokens)
        return data, TextEncoder(tokenizer, model, shape.max_tokens)

    def components(self, trained: TextEncoder) -> Components:
        """See Family."""
        return Components({"text_encoder": type(trained.model).__name__}, "transformers.CLIPTextModel")

    def task(
        self, options: EncodeTexts, data: Prepared, trained: TextEncoder, accelerator: "Accelerator"
    ) -> ContrastiveTask:
        """See Family."""
        spec, shape, verbose = data.spec, options.encoder, accelerator.is_main_process
        # The main process fills the cache, the others wait and read it.
        with accelerator.main_process_first():
            sources = (data.train, data.validation)
            train, validation = (_pairs(options, source, trained, verbose) for source in sources)
        config = JointConfig(
            spec.spatial_dims, spec.channels, shape.image_widths, trained.width, shape.joint, shape.temperature
        )
        with initial_weights(options.loop.seed, "joint"):
            pairs = PairEncoder(trained, JointSpace(config)).to(accelerator.device)
        return ContrastiveTask(pairs, train, validation, options.loop, accelerator.device)

    def report(self, options: EncodeTexts, data: Prepared, task: Task[Any]) -> None:
        """Say how many held-out images find their text."""
        if not isinstance(task, ContrastiveTask):
            raise TypeError("the task of a text encoder")
        saved = PairEncoder.load(options.out / "model", options.encoder.max_tokens).to(task.device).eval()
        if metrics := retrieval(saved, task.validation, task.device):
            say(f"held-out images find their text in {metrics['found']:.1%}, by chance in {metrics['chance']:.1%}.")


def _pairs(options: EncodeTexts, source: ImageSource, text: TextEncoder, verbose: bool) -> PairData:
    """The rows that have a text."""

    images, usable = cached_usable_images(source, options.cache_folder, options.skip_bad, verbose)
    texts = [sample.condition.text or "" for sample in source.samples]
    return PairData(images, texts, token_ids(text, texts, verbose), [row for row in usable if texts[row]])
