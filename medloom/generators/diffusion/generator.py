"""The diffusion generator: from conditions and seeds to images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, adaptive_max_pool3d

from medloom.core.errors import UserError
from medloom.core.mask_spec import NO_MASK
from medloom.core.seeds import sample_noise
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.generators.base import ConditionedGenerator, ReadMask, ReadPrior
from medloom.generators.diffusion.model import DiffusionModel
from medloom.generators.volumes import WholeMask, Window, blended
from medloom.networks.autoencoder import KLAutoencoder
from medloom.processes.editing import check_start, held, invert
from medloom.processes.guidance import guidance_coefficients, guide
from medloom.processes.paths import ProbabilityPath
from medloom.processes.samplers import default_sampler, first_order, get_sampler
from medloom.processes.steps import Denoise

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 2.0


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled.

    Attributes:
        steps: steps of the sampler.
        guidance: scale for all parts of the condition; 1 is none.
        guidance_by_part: scales of single parts (mask, prior, modality, table, text), in place of `guidance`.
        sampler: name, or None for the generator's default.
        negative: text that takes the place of the empty text, or None.
        start: what sampling starts from: noise, prior (the earlier image, noised), or inversion (the noise that leads
            to the earlier image).
        strength: share of the way to noise at which these two start; lower keeps more of the earlier image.
    """

    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    guidance_by_part: Mapping[str, float] = field(default_factory=dict)
    sampler: str | None = None
    negative: str | None = None
    start: str = "noise"
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Priors:
    """Earlier images of a batch of conditions.

    Attributes:
        images: `(N, C, *size)` in [-1, 1], 0 where there is none.
        told: what the network sees, `(N, C + 1, *grid)`; the last channel says where there is one.
        clean: what is denoised, `(N, C, *grid)`: the images, or their latents.
    """

    images: Tensor
    told: Tensor
    clean: Tensor

    def outside(self, images: Tensor, regions: Tensor | None) -> Tensor:
        """Images `(N, C, *size)` that are the earlier ones outside of regions `(N, 1, *size)`."""
        return images if regions is None else torch.lerp(self.images, images, regions.to(images))


class DiffusionGenerator(ConditionedGenerator):
    """Generates images by diffusion in pixels or in an autoencoder's latents.

    Attributes:
        path: the probability path that the model was trained on.
        autoencoder: between pixels and latents, or None.
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
        super().__init__(spec, model, modality_as, train_text)
        self.model: DiffusionModel = model
        self.path = path
        self.autoencoder = autoencoder

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

    def to(self, device: torch.device | str) -> "DiffusionGenerator":
        """Move all networks to a device."""
        self.model.to(device)
        if self.autoencoder is not None:
            self.autoencoder.to(device)
        return self

    def check_sampling(self, options: SamplingOptions) -> None:
        """Refuse sampling options that do not fit the model.

        Raises:
            UserError: an unknown or unfitting sampler, no step, or a guidance scale out of range or of no part.
        """
        get_sampler(options.sampler or default_sampler(self.path), self.path)
        guidance_coefficients(self.parts, self._scales(options))
        if options.steps < 1:
            raise UserError(f"{options.steps} sampling steps; at least 1 is needed.")
        check_start(options.start, options.strength)
        if options.start != "noise" and "prior" not in self.parts:
            raise UserError(f"--start {options.start}: the model takes no earlier image; leave it out.")
        if options.start == "inversion" and options.sampler is not None:
            raise UserError("--sampler: an inversion is undone by steps of first order; leave it out.")

    @torch.no_grad()
    def generate(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        options: SamplingOptions | None = None,
        read_mask: ReadMask | None = None,
        read_prior: ReadPrior | None = None,
        regions: Tensor | None = None,
    ) -> Tensor:
        """Generate one image a condition.

        Args:
            conditions: what the images should show.
            seeds: one integer an image; all of an image's noise is drawn from its seed, on the CPU.
            options: steps, guidance, sampler, negative prompt.
            read_mask: reads the label map of a condition, where the model takes masks.
            read_prior: reads the earlier image of a condition, where the model takes them.
            regions: float32 `(N, 1, *size)` in [0, 1], where images may differ from their earlier ones, or None for
                everywhere.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.

        Raises:
            UserError: a condition, sampler or scale that does not fit the model.
        """
        options = options or SamplingOptions()
        conditions, subsets = self._prepared(conditions, options)
        priors = self.priors(conditions, read_prior)
        told = None if priors is None else priors.told
        inputs = [self.inputs(conditions, kept, options.negative, read_mask, told) for kept, _ in subsets]
        denoise = guide(self._predict, _same_length(inputs), [factor for _, factor in subsets])
        noise = sample_noise(seeds, self.latent_shape).to(self.device)
        if priors is None or (options.start == "noise" and regions is None):
            images = self.decode(self._sampled(denoise, seeds, self.latent_shape, options, noise))
            return images.clamp(-1, 1).float().cpu()
        if options.start == "inversion":
            noise = self._inverted(conditions, priors, options, read_mask)
        region = None if regions is None else self._on_grid(regions)
        denoise = held(denoise, self.path, priors.clean, options.strength, region)
        images = self.decode(self._sampled(denoise, seeds, self.latent_shape, options, noise))
        return priors.outside(images, regions).clamp(-1, 1).float().cpu()

    @torch.no_grad()
    def generate_patches(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        labels: Tensor,
        places: Tensor,
        options: SamplingOptions | None = None,
    ) -> Tensor:
        """As every family that was trained on patches."""
        options = options or SamplingOptions()
        conditions, subsets = self._prepared(conditions, options)
        told = _same_length([self.told(conditions, kept, options.negative) for kept, _ in subsets])
        inputs = [self._seen(each, kept, labels, places) for each, (kept, _) in zip(told, subsets, strict=True)]
        denoise = guide(self._predict, inputs, [factor for _, factor in subsets])
        return self._sampled(denoise, seeds, self.spec.shape, options).clamp(-1, 1).float().cpu()

    @torch.no_grad()
    def generate_whole(
        self, condition: Condition, seed: int, mask: WholeMask, options: SamplingOptions | None = None
    ) -> Tensor:
        """As every family that was trained on patches: windows are blended at each step of the sampler."""
        options = options or SamplingOptions()
        conditions, subsets = self._prepared([condition], options)
        told = _same_length([self.told(conditions, kept, options.negative) for kept, _ in subsets])
        factors = [factor for _, factor in subsets]

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            def predict(windows: Sequence[Window]) -> Tensor:
                labels, places = mask.labels_of(windows), mask.places_of(windows)
                inputs = [
                    self._seen(_repeated(each, len(windows)), kept, labels, places)
                    for each, (kept, _) in zip(told, subsets, strict=True)
                ]
                parts = torch.stack([window.of(x[0]) for window in windows])
                return guide(self._predict, inputs, factors)(parts, t.expand(len(windows)))

            return blended(predict, mask.frame, mask.tiling)[None]

        whole = self._sampled(denoise, [seed], (self.spec.channels, *mask.frame), options)
        return mask.cropped(whole[0]).clamp(-1, 1).float().cpu()

    def _prepared(
        self, conditions: Sequence[Condition], options: SamplingOptions
    ) -> tuple[list[Condition], list[tuple[frozenset[str], float]]]:
        """The conditions, checked and completed, and the subsets of their parts that guidance evaluates."""
        self.check_conditions(conditions)
        self.model.eval()
        return [self.completed(condition) for condition in conditions], guidance_coefficients(
            self.parts, self._scales(options)
        )

    def _sampled(
        self,
        denoise: Denoise,
        seeds: Sequence[int],
        shape: Sequence[int],
        options: SamplingOptions,
        noise: Tensor | None = None,
    ) -> Tensor:
        """What a sampler makes of each seed's noise `(C, *spatial)`, or of the noise that is given."""
        if options.start == "inversion":
            # Which undoes steps of first order.
            sampler = first_order(self.path, options.steps)[0]
        else:
            sampler = get_sampler(options.sampler or default_sampler(self.path), self.path)

        def noise_of_step(index: int) -> Tensor:
            return sample_noise(seeds, shape, "step", index).to(self.device)

        noise = sample_noise(seeds, shape).to(self.device) if noise is None else noise
        return sampler(denoise, noise, self.path, options.steps, noise_fn=noise_of_step)

    def _seen(
        self, told: Mapping[str, Tensor | None], kept: frozenset[str], labels: Tensor, places: Tensor
    ) -> dict[str, Tensor | None]:
        """The tensors of some patches: what they are told, their labels unless they are not told them, their places."""
        labels = labels if "mask" in kept else torch.full_like(labels, NO_MASK)
        return {**told, "labels": labels.to(self.device), "place": places.to(self.device)}

    def priors(self, conditions: Sequence[Condition], read_prior: ReadPrior | None) -> Priors | None:
        """The earlier images of conditions; None for a model that takes none.

        Args:
            conditions: those without an earlier image have zeros.
            read_prior: reads one.
        """
        if not self.model.prior_channels:
            return None
        images = self.prior_images(conditions, read_prior)
        kept = images if self.autoencoder is None else self.autoencoder.moments(images)
        there = torch.tensor([condition.prior is not None for condition in conditions]).to(kept)
        there = there.view(-1, *[1] * (kept.ndim - 1))
        told = self.prior_of(torch.cat([kept * there, there.expand(-1, 1, *kept.shape[2:])], dim=1))
        return Priors(images, told, self._clean(kept))

    def prior_of(self, kept: Tensor) -> Tensor:
        """As every family; of an autoencoder's moments the mean, in Stable Diffusion's conventions not scaled."""
        if self.autoencoder is None:
            return kept
        mean = kept[:, :-1].chunk(2, dim=1)[0]
        # Brooks et al. 2023, InstructPix2Pix, leave it as the encoder gives it.
        return torch.cat([mean if self.exportable else self._clean(kept[:, :-1]), kept[:, -1:]], dim=1)

    def _clean(self, kept: Tensor) -> Tensor:
        """What is denoised, of images as training data keep them: themselves, or the mean of their latents."""
        if self.autoencoder is None:
            return kept
        return self.autoencoder.sample(kept, torch.zeros_like(kept.chunk(2, dim=1)[0]))

    def _inverted(
        self, conditions: Sequence[Condition], priors: Priors, options: SamplingOptions, read_mask: ReadMask | None
    ) -> Tensor:
        """What leads to the earlier images, by the denoiser that is told all but the text, which asks for a change."""
        parts = frozenset(self.parts) - {"text"}
        unchanged = guide(self._predict, [self.inputs(conditions, parts, None, read_mask, priors.told)], [1.0])
        times = first_order(self.path, options.steps)[1]
        return invert(unchanged, priors.clean, self.path, times, options.strength)

    def _on_grid(self, regions: Tensor) -> Tensor:
        """Regions on the grid that is denoised: what has a pixel in the region may change."""
        grid = self.latent_shape[1:]
        pool = adaptive_max_pool3d if len(grid) == 3 else adaptive_max_pool2d
        return pool(regions, grid).to(self.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of what was denoised: the autoencoder's decoder, or the identity."""
        return latents if self.autoencoder is None else self.autoencoder.decode(latents)

    def _scales(self, options: SamplingOptions) -> dict[str, float]:
        return {part: options.guidance_by_part.get(part, options.guidance) for part in self.parts} | dict(
            options.guidance_by_part
        )

    def _predict(self, x: Tensor, t: Tensor, inputs: Mapping[str, Tensor | None]) -> Tensor:
        return self.path.predicted(self.model(x, self.path.time_embedding_value(t), inputs), x, t)


def _repeated(tensors: Mapping[str, Tensor | None], count: int) -> dict[str, Tensor | None]:
    """The tensors of one condition for so many windows."""
    return {name: None if value is None else value.expand(count, *value.shape[1:]) for name, value in tensors.items()}


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
