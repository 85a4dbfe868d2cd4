"""The token generator: from conditions and seeds to images in a few parallel steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.generators.base import ConditionedGenerator, ReadMask, ReadPrior
from medloom.generators.tokens.model import TokenModel, Told
from medloom.generators.tokens.options import SamplingOptions
from medloom.networks.tokenizer import Tokeniser
from medloom.processes.guidance import guidance_coefficients
from medloom.processes.token_decoding import DecodingOptions, Logits, TokenStep, as_likely, decode, rescored
from medloom.processes.token_masking import draw_masks, masked_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Started:
    """Where decoding starts.

    Attributes:
        tokens: int64 `(N, L)`; masked ones have the code after the last.
        images: earlier images `(N, C, *size)` in [-1, 1], or None.
        told: of the earlier images, float `(N, 2, *grid)`: tokens, and 1 where there are any; or None.
    """

    tokens: Tensor
    images: Tensor | None = None
    told: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Trajectory:
    """How some images were decoded, with all that is needed to score their draws again.

    Attributes:
        conditions: of the images.
        options: that they were decoded with.
        started: where decoding started.
        steps: each step's masks, draws and log-probabilities.
        coarse: the coarser tokens int64 `(N, *coarse grid)`, of a second stage.
    """

    conditions: Sequence[Condition]
    options: SamplingOptions
    started: Started
    steps: Sequence[TokenStep]
    coarse: Tensor | None = None


class TokenGenerator(ConditionedGenerator):
    """Generates images by decoding masked tokens.

    Attributes:
        tokeniser: between pixels and tokens.
        first: the generator of the coarser tokens of a second stage, or None.
    """

    family = "tokens"
    tokeniser: Tokeniser

    def __init__(
        self,
        spec: ImageSpec,
        model: TokenModel,
        tokeniser: Tokeniser,
        modality_as: str,
        train_text: bool,
        reads_text: bool = True,
        first: "TokenGenerator | None" = None,
    ) -> None:
        super().__init__(spec, model, modality_as, train_text)
        self.model: TokenModel = model
        self.tokeniser = tokeniser
        self.reads_text = reads_text and self.takes_text
        self.first = first

    @property
    def takes_text(self) -> bool:
        """Whether text conditions it."""
        return self.model.network.config.fusion != "none"

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return self.tokeniser.grid(self.spec.size)

    def to(self, device: torch.device | str) -> "TokenGenerator":
        """Move all networks to a device."""
        self.model.to(device)
        self.tokeniser.to(device)
        if self.first is not None:
            self.first.to(device)
        return self

    def check_sampling(self, options: SamplingOptions) -> None:
        """Refuse options that do not fit the model.

        Raises:
            UserError: a value out of range, a guidance scale of no part, more steps than tokens, or a start without an
                earlier image.
        """
        options.check()
        _decoding(options).check()
        guidance_coefficients(self.parts, self._scales(options))
        length = self.model.network.length
        masked_counts(length, options.steps, options.mask_schedule)
        if "prior" not in self.parts and (options.residual or options.start == "prior"):
            option = "residual" if options.residual else "start prior"
            raise UserError(f"--{option}: the model takes no earlier image; leave it out.")
        if options.start == "prior":
            masked_counts(_share(options.strength, length), options.steps, options.mask_schedule)

    @torch.no_grad()
    def generate(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: SamplingOptions | None = None,
        read_mask: ReadMask | None = None,
        read_prior: ReadPrior | None = None,
        regions: Tensor | None = None,
        callback: Callable[[TokenStep], object] | None = None,
    ) -> Tensor:
        """Generate one image a condition.

        Args:
            conditions: what the images should show.
            seeds: one integer an image; all that is drawn for an image comes from its seed, on the CPU.
            options: steps, temperature, guidance, ...
            read_mask: reads the label map of a condition, where the model takes masks.
            read_prior: reads the earlier image of a condition, where the model takes them.
            regions: float32 `(N, 1, *size)` in [0, 1], where images may differ from their earlier ones, or None for
                everywhere; the same for all of them.
            callback: is given each step.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.

        Raises:
            UserError: a condition or option that does not fit the model.
        """
        made = self.trajectory(conditions, seeds, options, read_mask, read_prior, regions, callback)
        images = self.images_of(made.steps[-1].after)
        if made.options.residual:
            images = self._on_earlier(images, made.started)
        if regions is not None and made.started.images is not None:
            images = torch.lerp(made.started.images, images, regions.to(images))
        return images.clamp(-1, 1).float().cpu()

    @torch.no_grad()
    def trajectory(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: SamplingOptions | None = None,
        read_mask: ReadMask | None = None,
        read_prior: ReadPrior | None = None,
        regions: Tensor | None = None,
        callback: Callable[[TokenStep], object] | None = None,
    ) -> Trajectory:
        """As `generate`, every step with its masks, draws and their log-probabilities."""
        options = options or SamplingOptions()
        self.check_conditions(conditions)
        self.model.eval()
        conditions = [self.completed(condition) for condition in conditions]
        coarse = self._coarse(conditions, seeds, options, read_mask)
        started = self._started(conditions, seeds, options, read_prior, regions)
        steps: list[TokenStep] = []

        def keep(step: TokenStep) -> None:
            steps.append(step)
            if callback is not None:
                callback(step)

        logits = self.logits(conditions, options, read_mask, started.told, coarse)
        decode(logits, started.tokens, self.tokeniser.codes, seeds, _decoding(options), keep)
        return Trajectory(conditions, options, started, steps, coarse)

    def log_probabilities(self, made: Trajectory, read_mask: ReadMask | None = None) -> list[Tensor]:
        """The log-probabilities of a trajectory's draws by the weights as they are, with gradients, `(N, L)` a step.

        Args:
            made: by this model or an earlier state of it.
            read_mask: reads the label map of a condition, where the model takes masks.
        """
        logits = self.logits(made.conditions, made.options, read_mask, made.started.told, made.coarse)
        return rescored(logits, made.steps, _decoding(made.options))

    def logits(
        self,
        conditions: Sequence[Condition],
        options: SamplingOptions,
        read_mask: ReadMask | None = None,
        prior: Tensor | None = None,
        coarse: Tensor | None = None,
    ) -> Logits:
        """The network with its guidance; conditions are encoded once for all steps."""
        told: dict[frozenset[str], Told] = {}

        def told_of(kept: frozenset[str]) -> Told:
            if kept not in told:
                inputs = self.inputs(conditions, kept, options.negative, read_mask, prior)
                told[kept] = self.model.told({**inputs, "coarse": coarse})
            return told[kept]

        def predict(tokens: Tensor, done: float) -> Tensor:
            total: Tensor | None = None
            likely: Tensor | None = None
            coefficients = guidance_coefficients(self.parts, self._scales(options, done))
            for kept, factor in coefficients:
                with torch.autocast(tokens.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                    part = self.model.network(tokens, **told_of(kept).tensors).float()
                if options.cutoff and len(coefficients) > 1 and kept == frozenset(self.parts):
                    likely = as_likely(part, options.cutoff)
                total = factor * part if total is None else total + factor * part
            if total is None:
                raise ValueError("guidance factors sum to 1, so that there is one")
            return total if likely is None else total.masked_fill(~likely, -math.inf)

        return predict

    def images_of(self, tokens: Tensor) -> Tensor:
        """Images `(N, C, *size)` of tokens int64 `(N, L)`; masked ones are shown as the first code."""
        known = tokens.masked_fill(tokens >= self.tokeniser.codes, 0)
        return self.tokeniser.decode(known.reshape(-1, *self.grid))

    def _on_earlier(self, images: Tensor, started: Started) -> Tensor:
        """Earlier images, where there are any, and what decoding changed: no token changed, no pixel does."""
        if started.told is None or started.images is None:
            return images
        tokens, there = started.told[:, 0].round().long(), started.told[:, 1].flatten(1).amax(1) > 0
        edited = started.images + images - self.images_of(tokens.flatten(1))
        return torch.where(there.view(-1, *[1] * (images.ndim - 1)), edited, images)

    def tokens_of(self, images: Tensor) -> Tensor:
        """Tokens int64 `(N, *grid)` of images `(N, C, *size)` in [-1, 1]."""
        return self.tokeniser.tokens(images.to(self.device))

    def _coarse(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: SamplingOptions,
        read_mask: ReadMask | None,
    ) -> Tensor | None:
        """The coarser tokens that a second stage is told, which the first stage decodes from the same seeds."""
        if self.first is None:
            return None
        first = self.first

        def read(condition: Condition) -> "NDArray[Any]":
            if read_mask is None:
                raise ValueError("a condition has a mask and no way to read it was given")
            return nearest(read_mask(condition), first.spec.size)

        steps = min(options.steps, first.model.network.length)
        made = first.trajectory(conditions, seeds, replace(options, steps=steps), read)
        return made.steps[-1].after.reshape(-1, *first.grid)

    def _started(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: SamplingOptions,
        read_prior: ReadPrior | None,
        regions: Tensor | None,
    ) -> Started:
        codes, length = self.tokeniser.codes, self.model.network.length
        tokens = torch.full((len(conditions), length), codes, device=self.device)
        if not self.model.prior_channels:
            return Started(tokens)
        images = self.prior_images(conditions, read_prior)
        earlier = self.tokens_of(images)
        there = torch.tensor([condition.prior is not None for condition in conditions], device=self.device)
        flags = there.view(-1, *[1] * len(self.grid)).expand(-1, *self.grid)
        told = torch.stack([earlier * flags, flags], dim=1).float()
        masked = self._masked(seeds, options, regions)
        tokens = torch.where(masked | ~there[:, None], tokens, earlier.flatten(1))
        return Started(tokens, images, told)

    def _masked(self, seeds: Sequence[int], options: SamplingOptions, regions: Tensor | None) -> Tensor:
        """Which tokens are decoded, bool `(N, L)`: those in the region, of which the strength says how many."""
        length = self.model.network.length
        allowed = torch.ones(len(seeds), length, dtype=torch.bool)
        if regions is not None:
            dims = len(self.grid)
            pool = torch.nn.functional.adaptive_max_pool3d if dims == 3 else torch.nn.functional.adaptive_max_pool2d
            allowed = pool(regions, self.grid).flatten(1) > 0
        if options.start == "prior" and options.strength < 1:
            uniforms = torch.stack([torch.rand(length, generator=torch_generator("start", seed)) for seed in seeds])
            count = _share(options.strength, int(allowed[0].sum()))
            ordered = uniforms.masked_fill(~allowed, 2.0)
            allowed = draw_masks(torch.full((len(seeds),), count / length), ordered)
        return allowed.to(self.device)

    def _scales(self, options: SamplingOptions, done: float = 1.0) -> dict[str, float]:
        """Guidance scales by part, at a share of the steps."""
        scales = {part: options.guidance_by_part.get(part, options.guidance) for part in self.parts}
        scales |= dict(options.guidance_by_part)
        if options.guidance_schedule == "linear":
            last = max(1, options.steps - 1) / options.steps
            progress = min(1.0, done / last)
            scales = {part: 1 + (scale - 1) * progress for part, scale in scales.items()}
        return scales


def nearest(labels: "NDArray[Any]", size: Sequence[int]) -> "NDArray[Any]":
    """A label map at another size, by nearest neighbour."""
    for axis, length in enumerate(size):
        centres = (np.arange(length) + 0.5) * labels.shape[axis] / length
        labels = labels.take(centres.astype(int), axis)
    return labels


def _share(share: float, length: int) -> int:
    """So many of `length` tokens, one at least."""
    return max(1, min(length, round(share * length)))


def _decoding(options: SamplingOptions) -> DecodingOptions:
    return DecodingOptions(
        options.steps,
        options.temperature,
        options.annealing,
        options.top_k,
        options.top_p,
        options.cutoff,
        options.remasking,
        options.mask_schedule,
    )
