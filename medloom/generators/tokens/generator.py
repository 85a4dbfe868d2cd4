"""The token generator: from conditions and seeds to images in a few parallel steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.data.dataset import ImageSource
from medloom.generators.base import ImageGenerator, on_cpu
from medloom.generators.condition_inputs import Priors
from medloom.generators.condition_rules import ConditionRules
from medloom.generators.sampling import FROM_NOISE, Edit, TokenSampling
from medloom.generators.storage import load_generator
from medloom.generators.tokens.cached_tokens import cached_tokens
from medloom.generators.tokens.model import EncodedCondition, TokenModel
from medloom.generators.watching import SamplingStep
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder
from medloom.networks.token_transformer import TokenTransformer
from medloom.networks.tokenizer import Tokenizer, load_tokenizer
from medloom.processes.editing import region_of
from medloom.processes.guidance import guidance_coefficients
from medloom.processes.token_decoding import (
    DecodingOptions,
    Logits,
    TokenStep,
    as_likely,
    decode,
    draw_masks,
    masked_counts,
    rescored,
)

# Folder of the first of two stages.
FIRST = "first"


@dataclass(frozen=True, eq=False)
class Start:
    """Where decoding starts.

    Attributes:
        tokens: int64 `(N, L)`; masked ones have the code after the last.
        priors: prior images, or None.
        prior_tokens: of the prior images, float `(N, 2, *grid)`: tokens, and 1 where there are any; or None.
    """

    tokens: Tensor
    priors: Priors | None = None
    prior_tokens: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Trajectory:
    """How some images were decoded, with all that is needed to score their draws again.

    Attributes:
        conditions: of the images.
        sampling: options that they were decoded with.
        start: where decoding started.
        steps: each step's masks, draws and log-probabilities.
        labels: the conditions' label maps, for a model that takes masks.
        coarse: the tokens of the first stage int64 `(N, *coarse grid)`, of a second stage.
    """

    conditions: Sequence[Condition]
    sampling: TokenSampling
    start: Start
    steps: Sequence[TokenStep]
    labels: Tensor | None = None
    coarse: Tensor | None = None


class TokenGenerator(ImageGenerator[TokenModel, TokenSampling]):
    """Generates images by decoding masked tokens.

    Attributes:
        tokenizer: between pixels and tokens.
        first: the generator of the coarser tokens of a second stage, or None.
    """

    family = "tokens"
    sampling = TokenSampling()
    tokenizer: Tokenizer

    def __init__(
        self,
        spec: ImageSpec,
        model: TokenModel,
        tokenizer: Tokenizer,
        modality_as: str,
        train_text: bool,
        reads_text: bool = True,
        first: "TokenGenerator | None" = None,
    ) -> None:
        super().__init__(spec, model, modality_as, train_text)
        self.tokenizer = tokenizer
        self.reads_text = reads_text and self.takes_text
        self.first = first

    @property
    def takes_text(self) -> bool:
        """Whether text conditions it."""
        return self.model.network.config.fusion != "none"

    @property
    def rules(self) -> ConditionRules:
        """See `ImageGenerator`; each of two stages needs what all of its own images had."""
        rules = super().rules
        first = None if self.first is None else self.first.trained_on
        return rules if first is None or rules.record is None else replace(rules, record=rules.record.with_stage(first))

    @property
    def can_guide(self) -> bool:
        """See `ImageGenerator`; of two stages both are guided."""
        return super().can_guide and (self.first is None or self.first.can_guide)

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return self.tokenizer.grid(self.spec.size)

    def to(self, device: torch.device | str) -> "TokenGenerator":
        """Move all networks to a device."""
        super().to(device)
        if self.first is not None:
            self.first.to(device)
        return self

    def check_sampling(self, sampling: TokenSampling, edit: Edit = FROM_NOISE) -> None:
        """Refuse sampling options and edits that do not fit the model.

        Raises:
            UserError: a value out of range, guidance that the model cannot follow, more steps than tokens, or an edit
                of a model that takes no prior image.
        """
        sampling.check()
        _decoding(sampling).check()
        # A region that is found looks at the negative text, whatever the scale.
        self.check_guidance(self._scales(sampling), None if edit.finds_region else sampling.negative)
        length = self.model.network.length
        masked_counts(length, sampling.steps, sampling.mask_schedule)
        if edit.start == "inversion":
            raise UserError("--start inversion: tokens have no noise to invert; give noise or prior.")
        edit.require_prior(self.parts)
        if edit.start == "prior":
            masked_counts(_part(edit.strength, length), sampling.steps, sampling.mask_schedule)

    def cached_targets(
        self, source: ImageSource, folder: Path, device: torch.device, skip_bad: bool, verbose: bool
    ) -> tuple[NDArray[Any], list[int]]:
        """See `ImageGenerator`: tokens `(rows, 1, *grid)`."""
        return cached_tokens(source, self.tokenizer, folder, device, skip_bad, verbose)

    def save_components(self, folder: Path) -> dict[str, Any]:
        """Write transformer and tokenizer; those of the first of two stages to `first/`."""
        self.model.network.save_pretrained(folder / "transformer")
        self.tokenizer.save(folder / "vq")
        if self.first is not None:
            (folder / FIRST).mkdir()
            self.first.save(folder / FIRST)
        return {"codes": self.tokenizer.codes, "two_stages": self.first is not None}

    @classmethod
    def from_components(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        spec: ImageSpec,
        text: TextEncoder,
        condition: ConditionEncoder | None,
    ) -> "TokenGenerator":
        """See `ImageGenerator`.

        Raises:
            UserError: the tokenizer is another one than the transformer was trained with.
        """
        network, tokenizer = TokenTransformer.from_pretrained(folder / "transformer"), load_tokenizer(folder / "vq")
        if tokenizer.codes != network.config.codes:
            raise UserError(
                f"the model in {folder} has a transformer of {network.config.codes} codes and a tokenizer of"
                f" {tokenizer.codes}: one of them was changed."
            )
        if condition is None:
            raise TypeError("a token generator has a condition encoder")
        first = load_generator(folder / FIRST) if settings["two_stages"] else None
        if first is not None and not isinstance(first, TokenGenerator):
            raise UserError(f"{folder / FIRST} holds a run of the family {first.family}: it was changed.")
        read_as = settings["modality_as"], settings["train_text"], settings["reads_text"]
        model = TokenModel(text, condition, network, settings["mask_classes"])
        return cls(spec, model, tokenizer.eval(), *read_as, first)

    @torch.no_grad()
    def sample(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: TokenSampling | None = None,
        edit: Edit = FROM_NOISE,
    ) -> Tensor:
        """See `ImageGenerator.sample`."""

        def show(step: TokenStep) -> None:
            if self.watch is not None:
                total = (sampling or self.sampling).steps
                self.watch(SamplingStep(step.index, total, partial(self.known_images, step.after)))

        made = self.trajectory(conditions, seeds, sampling, edit, show)
        images, priors = self.images_of(made.steps[-1].after), made.start.priors
        if edit.finds_region and priors is not None:
            others = self.unchanged(conditions, sampling or self.sampling)
            steps = self.trajectory(others, seeds, sampling, edit).steps
            priors = priors.within(region_of(images - self.images_of(steps[-1].after)))
        if edit.residual:
            images = self._on_prior(images, made.start)
        return on_cpu(images if priors is None else priors.outside(images))

    @torch.no_grad()
    def trajectory(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: TokenSampling | None = None,
        edit: Edit = FROM_NOISE,
        callback: Callable[[TokenStep], object] | None = None,
        labels: Tensor | None = None,
    ) -> Trajectory:
        """As `sample`, every step with its masks, draws and their log-probabilities.

        `labels` are the conditions' label maps where they were read already, int64 `(N, *size)`.
        """
        sampling = sampling or self.sampling
        self.check_conditions(conditions)
        self.model.eval()
        conditions = [self.completed(condition) for condition in conditions]
        labels = self.mask_labels(conditions) if labels is None else labels
        coarse = self._coarse(conditions, seeds, sampling, labels)
        start = self._start(conditions, seeds, edit)
        steps: list[TokenStep] = []

        def keep(step: TokenStep) -> None:
            steps.append(step)
            if callback is not None:
                callback(step)

        logits = self.logits(conditions, sampling, labels, start.prior_tokens, coarse)
        decode(logits, start.tokens, self.tokenizer.codes, seeds, _decoding(sampling), keep)
        return Trajectory(conditions, sampling, start, steps, labels, coarse)

    def log_probabilities(self, made: Trajectory) -> list[Tensor]:
        """The log-probabilities of a trajectory's draws by the present weights, with gradients, `(N, L)` a step.

        Args:
            made: by this model or an earlier state of it.
        """
        logits = self.logits(made.conditions, made.sampling, made.labels, made.start.prior_tokens, made.coarse)
        return rescored(logits, made.steps, _decoding(made.sampling))

    def logits(
        self,
        conditions: Sequence[Condition],
        sampling: TokenSampling,
        labels: Tensor | None = None,
        priors: Tensor | None = None,
        coarse: Tensor | None = None,
    ) -> Logits:
        """The network with its guidance; conditions are encoded once for all steps."""
        encoded: dict[frozenset[str], EncodedCondition] = {}

        def encode(kept: frozenset[str]) -> EncodedCondition:
            if kept not in encoded:
                inputs = self.inputs(conditions, kept, sampling.negative, labels, priors)
                encoded[kept] = self.model.encode(replace(inputs, coarse_tokens=coarse))
            return encoded[kept]

        def predict(tokens: Tensor, done: float) -> Tensor:
            total: Tensor | None = None
            likely: Tensor | None = None
            coefficients = guidance_coefficients(self.parts, self._scales(sampling, done))
            for kept, factor in coefficients:
                with torch.autocast(tokens.device.type, torch.bfloat16, enabled=sampling.precision == "bf16"):
                    part = self.model.predict(tokens, encode(kept)).float()
                if sampling.cutoff and len(coefficients) > 1 and kept == frozenset(self.parts):
                    likely = as_likely(part, sampling.cutoff)
                total = factor * part if total is None else total + factor * part
            if total is None:
                raise ValueError("guidance factors sum to 1, so that there is one")
            return total if likely is None else total.masked_fill(~likely, -math.inf)

        return predict

    def images_of(self, tokens: Tensor) -> Tensor:
        """Images `(N, C, *size)` of tokens int64 `(N, L)`; masked ones are shown as the first code."""
        known = tokens.masked_fill(tokens >= self.tokenizer.codes, 0)
        return self.tokenizer.decode(known.reshape(-1, *self.grid))

    @torch.no_grad()
    def known_images(self, tokens: Tensor) -> Tensor:
        """As `images_of`, on the CPU in [-1, 1], grey where tokens are masked."""
        masked = (tokens == self.tokenizer.codes).reshape(-1, 1, *self.grid).float()
        grey = interpolate(masked, size=self.spec.size, mode="nearest").bool()
        return on_cpu(self.images_of(tokens)).masked_fill(grey.cpu(), 0.0)

    def tokens_of(self, images: Tensor) -> Tensor:
        """Tokens int64 `(N, *grid)` of images `(N, C, *size)` in [-1, 1]."""
        return self.tokenizer.tokens(images.to(self.device))

    def _on_prior(self, images: Tensor, start: Start) -> Tensor:
        """Prior images, where there are any, and what decoding changed: no token changed, no pixel does."""
        if start.prior_tokens is None or start.priors is None:
            return images
        tokens = start.prior_tokens[:, 0].round().long()
        edited = start.priors.images + images - self.images_of(tokens.flatten(1))
        return torch.where(start.priors.present.view(-1, *[1] * (images.ndim - 1)), edited, images)

    def _coarse(
        self, conditions: Sequence[Condition], seeds: Sequence[int], sampling: TokenSampling, labels: Tensor | None
    ) -> Tensor | None:
        """The tokens that condition a second stage, which the first stage decodes from the same seeds."""
        if self.first is None:
            return None
        first = self.first
        # A first stage sees masks at its own, smaller size.
        smaller = None if labels is None else nearest(labels, first.spec.size)
        steps = min(sampling.steps, first.model.network.length)
        made = first.trajectory(conditions, seeds, replace(sampling, steps=steps), labels=smaller)
        return made.steps[-1].after.reshape(-1, *first.grid)

    def _start(self, conditions: Sequence[Condition], seeds: Sequence[int], edit: Edit) -> Start:
        codes, length = self.tokenizer.codes, self.model.network.length
        tokens = torch.full((len(conditions), length), codes, device=self.device)
        priors = self.priors(conditions, edit)
        if priors is None:
            return Start(tokens)
        known = self.tokens_of(priors.images)
        flags = priors.present.view(-1, *[1] * len(self.grid)).expand(-1, *self.grid)
        seen = torch.stack([known * flags, flags], dim=1).float()
        masked = self._masked(seeds, edit, priors.regions)
        tokens = torch.where(masked | ~priors.present[:, None], tokens, known.flatten(1))
        return Start(tokens, priors, seen)

    def _masked(self, seeds: Sequence[int], edit: Edit, regions: Tensor | None) -> Tensor:
        """Which tokens are decoded, bool `(N, L)`: those in the region, as many as the strength says."""
        length = self.model.network.length
        allowed = torch.ones(len(seeds), length, dtype=torch.bool)
        if regions is not None:
            dims = len(self.grid)
            pool = torch.nn.functional.adaptive_max_pool3d if dims == 3 else torch.nn.functional.adaptive_max_pool2d
            allowed = pool(regions, self.grid).flatten(1) > 0
        if edit.start == "prior" and edit.strength < 1:
            uniforms = torch.stack([torch.rand(length, generator=torch_generator("start", seed)) for seed in seeds])
            count = _part(edit.strength, int(allowed[0].sum()))
            ordered = uniforms.masked_fill(~allowed, 2.0)
            allowed = draw_masks(torch.full((len(seeds),), count / length), ordered)
        return allowed.to(self.device)

    def _scales(self, sampling: TokenSampling, done: float = 1.0) -> dict[str, float]:
        """Guidance scales by part, at a fraction of the steps."""
        scales = dict.fromkeys(self.parts, sampling.guidance) | dict(sampling.guidance_by_part)
        if sampling.guidance_schedule == "linear":
            last = max(1, sampling.steps - 1) / sampling.steps
            progress = min(1.0, done / last)
            scales = {part: 1 + (scale - 1) * progress for part, scale in scales.items()}
        return scales


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Label maps `(N, *size)` at another size, by nearest neighbour."""
    for axis, length in enumerate(size, 1):
        centres = (torch.arange(length, dtype=torch.float64) + 0.5) * labels.shape[axis] / length
        labels = labels.index_select(axis, centres.long().to(labels.device))
    return labels


def _part(fraction: float, length: int) -> int:
    """So many of `length` tokens, one at least."""
    return max(1, min(length, round(fraction * length)))


def _decoding(sampling: TokenSampling) -> DecodingOptions:
    return DecodingOptions(
        sampling.steps,
        sampling.temperature,
        sampling.annealing,
        sampling.top_k,
        sampling.top_p,
        sampling.cutoff,
        sampling.remasking,
        sampling.mask_schedule,
    )
