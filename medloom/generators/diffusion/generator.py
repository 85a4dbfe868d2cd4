"""The diffusion generator: from conditions and seeds to images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import sample_noise
from medloom.core.spec import ImageSpec
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition
from medloom.generators.diffusion.model import DiffusionModel
from medloom.generators.diffusion.prompt import keep, known_parts, prompt_of
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.text import embed_texts
from medloom.processes.guidance import guidance_coefficients, guide
from medloom.processes.paths import ProbabilityPath
from medloom.processes.samplers import default_sampler, get_sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Reads the label map of a condition's mask in the model's geometry: int64 `(*size)`.
ReadMask = Callable[[Condition], "NDArray"]
DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 2.0


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled.

    Attributes:
        steps: steps of the sampler.
        guidance: scale for all parts of the condition; 1 is none.
        guidance_by_part: scales of single parts (mask, modality, table, text), in place of `guidance`.
        sampler: name, or None for the generator's default.
        negative: text that takes the place of the empty text, or None.
    """

    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    guidance_by_part: Mapping[str, float] = field(default_factory=dict)
    sampler: str | None = None
    negative: str | None = None


class DiffusionGenerator:
    """Generates images by diffusion in pixels or in an autoencoder's latents.

    Attributes:
        spec: the model's image space.
        path: the probability path that the model was trained on.
        model: networks, in evaluation mode for sampling.
        autoencoder: between pixels and latents, or None.
        modality_as: how the modality conditions the model: text, token or both.
        train_text: whether the text encoder belongs to the trained weights.
    """

    family = "diffusion"

    def __init__(
        self,
        spec: ImageSpec,
        path: ProbabilityPath,
        model: DiffusionModel,
        autoencoder: KLAutoencoder | None,
        modality_as: str,
        train_text: bool,
    ) -> None:
        if spec.spatial_dims == 2:
            # 2-D convolutions are faster with the channels last, on a CPU and on a GPU.
            model.denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spec = spec
        self.path = path
        self.model = model
        self.autoencoder = autoencoder
        self.modality_as = modality_as
        self.train_text = train_text

    @property
    def exportable(self) -> bool:
        """Whether it follows Stable Diffusion's conventions and opens in diffusers."""
        return self.model.condition is None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a condition that it tells apart, in the order of guidance."""
        return known_parts(self.exportable, bool(self.model.mask_classes), bool(self.columns))

    @property
    def columns(self) -> tuple[TableColumn, ...]:
        """The columns of a clinical table that condition it."""
        return () if self.model.condition is None else self.model.condition.config.columns

    @property
    def takes_text(self) -> bool:
        """Whether text conditions it: a network without fusion sees no more than a mask."""
        config = getattr(self.model.denoiser, "config", None)
        return self.exportable or getattr(config, "fusion", "none") != "none"

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of what is denoised: `(C, *spatial)`."""
        if self.autoencoder is None:
            return self.spec.shape
        return self.autoencoder.latent_shape(self.spec.size)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.model.denoiser.parameters()).device

    def to(self, device: torch.device | str) -> "DiffusionGenerator":
        """Move all networks to a device."""
        self.model.to(device)
        if self.autoencoder is not None:
            self.autoencoder.to(device)
        return self

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions that the model cannot follow.

        Raises:
            UserError: a modality, view or category of the table never trained on, or a text for a number.
        """
        for condition in conditions:
            if condition.modality is None and len(self.spec.intensity) > 1:
                raise UserError(f"name a modality; known: {', '.join(sorted(self.spec.intensity))}.")
            if condition.modality is not None:
                self.spec.of(condition.modality)
        if self.model.condition is not None:
            self.model.condition.indices([None] * len(conditions), [condition.view for condition in conditions])
            self.model.condition.cells([condition.table for condition in conditions])

    def table_refusal(self, condition: Condition) -> str | None:
        """Why a condition's table cannot be told to the model, or None."""
        for column in self.columns:
            if column.name not in condition.table:
                return f"no column {column.name!r}, which the model is told; add it, with empty cells where unknown."
            try:
                column.encode(condition.table[column.name])
            except UserError as error:
                return str(error)
        return None

    def completed(self, condition: Condition) -> Condition:
        """The condition with the modality named, where the model knows one only and was always told it in training."""
        if condition.modality is not None or len(self.spec.intensity) > 1:
            return condition
        return replace(condition, modality=next(iter(self.spec.intensity)))

    def check_sampling(self, options: SamplingOptions) -> None:
        """Refuse sampling options that do not fit the model.

        Raises:
            UserError: an unknown or unfitting sampler, no step, or a guidance scale out of range or of no part.
        """
        get_sampler(options.sampler or default_sampler(self.path), self.path)
        guidance_coefficients(self.parts, self._scales(options))
        if options.steps < 1:
            raise UserError(f"{options.steps} sampling steps; at least 1 is needed.")

    @torch.no_grad()
    def generate(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: SamplingOptions | None = None,
        read_mask: ReadMask | None = None,
    ) -> Tensor:
        """Generate one image a condition.

        Args:
            conditions: what the images should show.
            seeds: one integer an image; all of an image's noise is drawn from its seed, on the CPU.
            options: steps, guidance, sampler, negative prompt.
            read_mask: reads the label map of a condition, where the model takes masks.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.

        Raises:
            UserError: a condition, sampler or scale that does not fit the model.
        """
        options = options or SamplingOptions()
        self.check_conditions(conditions)
        conditions = [self.completed(condition) for condition in conditions]
        self.model.eval()
        sampler = get_sampler(options.sampler or default_sampler(self.path), self.path)
        subsets = guidance_coefficients(self.parts, self._scales(options))
        inputs = [self.inputs(conditions, kept, options.negative, read_mask) for kept, _ in subsets]
        denoise = guide(self._predict, _same_length(inputs), [factor for _, factor in subsets])
        noise = sample_noise(seeds, self.latent_shape).to(self.device)

        def noise_of_step(index: int) -> Tensor:
            return sample_noise(seeds, self.latent_shape, "step", index).to(self.device)

        latents = sampler(denoise, noise, self.path, options.steps, noise_fn=noise_of_step)
        return self.decode(latents).clamp(-1, 1).float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        """Images of what was denoised: the autoencoder's decoder, or the identity."""
        return latents if self.autoencoder is None else self.autoencoder.decode(latents)

    def _scales(self, options: SamplingOptions) -> dict[str, float]:
        return {part: options.guidance_by_part.get(part, options.guidance) for part in self.parts} | dict(
            options.guidance_by_part
        )

    def _predict(self, x: Tensor, t: Tensor, inputs: Mapping[str, Tensor | None]) -> Tensor:
        return self.model(x, self.path.time_embedding_value(t), inputs)

    def inputs(
        self,
        conditions: Sequence[Condition],
        kept: frozenset[str],
        negative: str | None = None,
        read_mask: ReadMask | None = None,
    ) -> dict[str, Tensor | None]:
        """The tensors of conditions of which only the `kept` parts are told; see DiffusionModel.forward."""
        reduced = [keep(condition, kept, self.parts) for condition in conditions]
        texts = [prompt_of(condition, self.modality_as, self.parts) for condition in reduced]
        if negative is not None and "text" not in kept:
            texts = [negative] * len(texts)
        tensors: dict[str, Tensor | None] = dict(self._embed(texts))
        if self.model.condition is not None:
            names = [None if self.modality_as == "text" else condition.modality for condition in reduced]
            modality, view = self.model.condition.indices(names, [condition.view for condition in reduced])
            tensors |= {"modality": modality.to(self.device), "view": view.to(self.device)}
        if self.columns and self.model.condition is not None:
            tensors["table"] = self.model.condition.cells([condition.table for condition in reduced]).to(self.device)
        if self.model.mask_classes:
            tensors["labels"] = self._labels(reduced, read_mask)
        return tensors

    def _embed(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Embeddings of texts, each embedded alone, so that it does not depend on the batch."""
        distinct = list(dict.fromkeys(texts))
        embedded = dict(zip(distinct, embed_texts(self.model.text, distinct, self.device), strict=True))
        tokens = [embedded[text][0] for text in texts]
        mask = torch.zeros(len(texts), max(map(len, tokens)), dtype=torch.bool)
        for row, entry in enumerate(tokens):
            mask[row, : len(entry)] = True
        padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        pooled = torch.stack([embedded[text][1] for text in texts])
        return {"tokens": padded.to(self.device), "pooled": pooled.to(self.device), "mask": mask.to(self.device)}

    def _labels(self, conditions: Sequence[Condition], read_mask: ReadMask | None) -> Tensor:
        labels = torch.full((len(conditions), *self.spec.size), -1, dtype=torch.long)
        for row, condition in enumerate(conditions):
            if condition.mask is not None:
                if read_mask is None:
                    raise ValueError("a condition has a mask and no way to read it was given")
                labels[row] = torch.from_numpy(read_mask(condition)).long()
        return labels.to(self.device)


def _same_length(inputs: list[dict[str, Tensor | None]]) -> list[dict[str, Tensor | None]]:
    """Pad token tensors of several subsets to one length, so that they can be one batch."""
    lengths = [tensors["tokens"].shape[1] for tensors in inputs if tensors["tokens"] is not None]
    longest = max(lengths)
    for tensors in inputs:
        for name in ("tokens", "mask"):
            value = tensors[name]
            if value is not None and value.shape[1] < longest:
                missing = longest - value.shape[1]
                padding = (0, 0, 0, missing) if name == "tokens" else (0, missing)
                tensors[name] = torch.nn.functional.pad(value, padding)
    return inputs
