"""The token family, as the training program sees it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.generators.autoencoder.find import find_tokenizer, known_space
from medloom.generators.autoencoder.quality import perplexity
from medloom.generators.family import Origin
from medloom.generators.generator_family import GeneratorFamily
from medloom.generators.preparation import Prepared, respecified, with_channels
from medloom.generators.sampling import SamplingSettings
from medloom.generators.tokens.build import build_generator, transformer_config
from medloom.generators.tokens.extend import extend_generator
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.options import GenerateTokens
from medloom.generators.tokens.task import TokenTask
from medloom.generators.training_data import TrainingData, spread_rows
from medloom.generators.training_facts import TrainingFacts, find_text_encoder
from medloom.networks.tokenizer import Tokenizer
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from numpy.typing import NDArray


# Where neither a tokenizer nor --image-size says it.
DEFAULT_SIZE = (64,)
# Training images whose tokens are looked at, and the perplexity below which these say nothing.
LOOKED_AT, FEWEST_CODES = 256, 1.5


class TokenFamily(GeneratorFamily[GenerateTokens, "TokenGenerator", Tokenizer]):
    """Masked transformers on the tokens of images."""

    name = "tokens"
    generator = TokenGenerator
    has_image_losses = True

    def checked(self, options: GenerateTokens) -> GenerateTokens:
        """With the tokenizer's image size; refuses options that exclude each other."""
        if options.upscale and options.from_run is None:
            raise UserError("--upscale needs --from RUN: a second stage is trained for the tokens of a first one.")
        if options.upscale and options.network.prior != "none":
            raise UserError("--upscale: a second stage takes no prior image; edit with a model of one stage.")
        space = _space(options)
        return replace(options, image_size=space.size if space else options.image_size or DEFAULT_SIZE)

    # The transformer's other options are compared with those of the run.
    chosen_anew = (*GeneratorFamily.chosen_anew, "network")

    def takes_priors(self, options: GenerateTokens) -> bool:
        """See GeneratorFamily."""
        return options.network.prior != "none"

    def sampling(self, options: GenerateTokens) -> SamplingSettings:
        """See GeneratorFamily."""
        return options.sampling

    def may_leave_unused(self, options: GenerateTokens) -> bool:
        """See GeneratorFamily."""
        return options.network.fusion != "cross-attention"

    def mask_labels(self, options: GenerateTokens) -> tuple[int, ...] | None:
        """See GeneratorFamily."""
        return None if options.network.mask == "none" else options.network.mask_classes

    def parent_options(self, options: GenerateTokens) -> tuple[Path | str | None, ...]:
        """See GeneratorFamily."""
        return (options.tokenizer,)

    def origin(self, options: GenerateTokens) -> Origin:
        """A run that is continued or the first of two stages, in the tokenizer's image space."""
        space = _space(options)
        origin = replace(super().origin(options), space=space, extends=space)
        if origin.model is not None and origin.model.first is not None:
            raise UserError(f"--from {options.from_run} is a second stage; give the run of a first one.")
        return replace(origin, model=None, first=origin.model) if options.upscale else origin

    def prepare_space(self, options: GenerateTokens, data: Prepared, origin: Origin) -> tuple[Prepared, Tokenizer]:
        """See GeneratorFamily."""
        tokenizer = find_tokenizer(options.tokenizer, data)
        return with_channels(data, tokenizer.image_channels), tokenizer

    def fresh(
        self, options: GenerateTokens, data: Prepared, facts: TrainingFacts, coder: Tokenizer, origin: Origin
    ) -> TokenGenerator:
        """See GeneratorFamily."""
        text = find_text_encoder(options.text, data)
        network = replace(options.network, mask_classes=facts.masks.visible)
        return build_generator(data.spec, facts, coder, network, text, options.loop.seed, origin.first)

    def continued(
        self, options: GenerateTokens, data: Prepared, facts: TrainingFacts, coder: Tokenizer, known: TokenGenerator
    ) -> TokenGenerator:
        """The generator with further modalities and columns, on the tokenizer's grid.

        Raises:
            UserError: data or options that it cannot continue with.
        """
        classes = options.network.mask_classes if options.network.mask != "none" else ()
        if tuple(classes) != tuple(known.model.mask_classes):
            labels = " ".join(map(str, known.model.mask_classes)) or "none"
            raise UserError(f"network.mask_classes: those of the run of --from are {labels}; give the same ones.")
        config = transformer_config(options.network, coder.grid(data.spec.size), coder.codes)
        return extend_generator(known, data.spec, facts, coder, config)

    def own_components(self, trained: TokenGenerator) -> dict[str, Any]:
        """See GeneratorFamily."""
        return {"transformer": trained.model.network, "tokenizer": trained.tokenizer.coder}

    def loss_task(self, trained: TokenGenerator, data: TrainingData, device: "torch.device") -> TokenTask:
        """See GeneratorFamily."""
        return TokenTask(trained, data, data, LoopOptions(), 0.0, device, lambda generator, out, step: None)

    def task(
        self, options: GenerateTokens, data: Prepared, trained: TokenGenerator, accelerator: "Accelerator"
    ) -> TokenTask:
        """See Family."""
        trained.to(accelerator.device)
        train, validation, render = self.caches(options, data, trained, accelerator)
        _require_codes(options.tokenizer, train)
        coarse = None
        if trained.first is not None:
            with accelerator.main_process_first():
                sources = (data.train, data.validation)
                first, second = (_coarse(options, source, trained.first, accelerator) for source in sources)
            coarse = (first, second)
        return TokenTask(
            trained,
            train,
            validation,
            options.loop,
            options.text.dropout,
            accelerator.device,
            render,
            options.text.learning_rate_factor,
            options.tokens,
            coarse,
        )


def _require_codes(tokenizer: Path, data: TrainingData) -> None:
    """Refuse tokens that say nothing of their image.

    Raises:
        UserError: all images have the same few codes.
    """
    tokens = data.images([data.usable[place] for place in spread_rows(len(data.usable), LOOKED_AT)]).round().long()
    counts = tokens.flatten().bincount().float()
    if (even := float(perplexity(counts / counts.sum()))) < FEWEST_CODES:
        raise UserError(
            f"--tokenizer {tokenizer}: its codebook has collapsed: the tokens of {len(tokens)} training images take"
            f" {int((counts > 0).sum())} codes, as good as {even:.1f} that are evenly used; train it longer or with"
            " --autoencoder.quantizer fsq."
        )


def _space(options: GenerateTokens) -> ImageSpec | None:
    """The image space of the tokenizer, or None where its folder does not say.

    Raises:
        UserError: --image-size asks for another one.
    """

    spec = known_space(options.tokenizer, "--tokenizer")
    if spec is None:
        return None
    wanted = options.image_size * len(spec.size) if len(options.image_size) == 1 else options.image_size
    if wanted and tuple(wanted) != spec.size:
        asked, has = (" x ".join(map(str, size)) for size in (wanted, spec.size))
        raise UserError(f"--image-size {asked}: the tokenizer {options.tokenizer} is of {has} pixels; leave it out.")
    return spec


def _coarse(
    options: GenerateTokens, source: ImageSource, first: TokenGenerator, accelerator: "Accelerator"
) -> "NDArray[np.int32]":
    """The tokens of the first stage of all rows, `(rows, *grid)`."""

    small = respecified(source, first.spec)
    device, verbose = accelerator.device, accelerator.is_main_process
    tokens, _ = first.cached_targets(small, options.cache_folder, device, options.skip_bad, verbose)
    return tokens[:, 0]
