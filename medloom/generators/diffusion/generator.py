"""The diffusion generator: from conditions and seeds to images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, adaptive_max_pool3d, interpolate

from medloom.core.errors import UserError
from medloom.core.seeds import sample_noise
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.data.dataset import ImageSource
from medloom.generators.base import ImageGenerator, on_cpu
from medloom.generators.condition_inputs import Priors
from medloom.generators.diffusion.export import load_exportable, save_exportable
from medloom.generators.diffusion.latents import cached_moments
from medloom.generators.diffusion.model import DiffusionModel
from medloom.generators.sampling import FROM_NOISE, DiffusionSampling, Edit
from medloom.generators.tensors import ConditionTensors, joined
from medloom.generators.volumes import WholeMask, Window, blended
from medloom.generators.watching import SamplingStep, Watch
from medloom.networks.autoencoder import KLAutoencoder, load_autoencoder
from medloom.networks.blocks import with_fast_layout
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.denoiser import UNet
from medloom.networks.text import TextEncoder
from medloom.networks.weights import widened
from medloom.processes.editing import changed_region, held, invert
from medloom.processes.guidance import guidance_coefficients, guide
from medloom.processes.levels import NoiseLevel, from_strength
from medloom.processes.paths import ProbabilityPath, path_from_dict
from medloom.processes.samplers import SamplerRow, default_sampler, first_order, get_sampler, samplers_for, stochastic
from medloom.processes.steps import Denoise, Step

# Noises that instructions are compared with, to find where an edit may change the image.
PROBES = 6


@dataclass(frozen=True, eq=False)
class DiffusionTrajectory:
    """How some images were sampled without guidance, with all that a policy needs to be trained on them.

    Attributes:
        inputs: the conditions' tensors, as the network was given them.
        clean: the images or latents, float32 `(N, C, *spatial)`.
        steps: the steps that added noise; empty without a window.
    """

    inputs: ConditionTensors
    clean: Tensor
    steps: Sequence[Step]


class DiffusionGenerator(ImageGenerator[DiffusionModel, DiffusionSampling]):
    """Generates images by diffusion in pixels or in an autoencoder's latents.

    Attributes:
        path: the probability path that the model was trained on.
        autoencoder: between pixels and latents, or None.
    """

    family = "diffusion"
    sampling = DiffusionSampling()

    def __init__(
        self,
        spec: ImageSpec,
        path: ProbabilityPath,
        model: DiffusionModel,
        autoencoder: KLAutoencoder | None,
        modality_as: str,
        train_text: bool,
    ) -> None:
        model.denoiser = with_fast_layout(model.denoiser, spec.spatial_dims)
        super().__init__(spec, model, modality_as, train_text)
        self.path = path
        self.autoencoder = autoencoder

    @property
    def takes_text(self) -> bool:
        """Whether text conditions it: a network without fusion sees no more than a mask."""
        config = getattr(self.model.denoiser, "config", None)
        return self.exportable or getattr(config, "fusion", "none") != "none"

    @property
    def takes_positions(self) -> bool:
        """See `ImageGenerator`: a native network that was built for padded images does."""
        return isinstance(self.model.denoiser, UNet) and self.model.denoiser.config.padding

    def learn_padding(self) -> None:
        """See `ImageGenerator`."""
        denoiser = self.model.denoiser
        if isinstance(denoiser, UNet) and not denoiser.config.padding:
            grown = widened(denoiser, replace(denoiser.config, padding=True))
            self.model.denoiser = with_fast_layout(grown, self.spec.spatial_dims)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of what is denoised: `(C, *spatial)`."""
        if self.autoencoder is None:
            return self.spec.shape
        return self.autoencoder.latent_shape(self.spec.size)

    def levels(self, sampling: DiffusionSampling) -> Sequence[NoiseLevel]:
        """The noise levels that its sampler visits, from noise to data."""
        levels: Sequence[NoiseLevel] = self._sampler(sampling).levels(self.path, sampling.steps)
        return levels

    def check_sampling(self, sampling: DiffusionSampling, edit: Edit = FROM_NOISE) -> None:
        """Refuse sampling options and edits that do not fit the model.

        Raises:
            UserError: an unknown or unfitting sampler, a number of steps out of range, guidance that the model cannot
                follow, an edit of a model that takes no prior image, or an inversion by one that was never trained
                without instruction.
        """
        self._sampler(sampling)
        # An inversion and a region that is found look at the negative text, whatever the scale.
        negative = None if edit.start == "inversion" or edit.finds_region else sampling.negative
        self.check_guidance(self._scales(sampling), negative)
        if sampling.steps < 1:
            raise UserError(f"--steps {sampling.steps}: it has to be at least 1.")
        # Now, and not when the first image is sampled.
        self._sampler(sampling, edit).levels(self.path, sampling.steps)
        edit.require_prior(self.parts)
        if edit.start == "inversion" and sampling.sampler is not None:
            raise UserError("--sampler: an inversion is undone by steps of first order; leave it out.")
        unasked = not sampling.negative and not self.can_guide and "text" in self.rules.needs
        if edit.start == "inversion" and unasked:
            raise UserError(
                "--start inversion: the model was trained with --text.dropout 0, never without instruction, as an"
                " inversion needs it; give an instruction for no change with --negative, give noise or prior, or train"
                " with a larger dropout."
            )
        if edit.residual:
            raise UserError("--residual is for token generators; leave it out.")

    @torch.no_grad()
    def sample(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: DiffusionSampling | None = None,
        edit: Edit = FROM_NOISE,
    ) -> Tensor:
        """See `ImageGenerator.sample`."""
        sampling = sampling or self.sampling
        conditions, subsets = self._prepared(conditions, sampling)
        priors = self.priors(conditions, edit)
        stored = None if priors is None else self._stored(priors)
        seen = None if stored is None else self.prior_inputs(stored)
        given = self.mask_labels(conditions), seen, self.frame_positions(conditions, seeds)
        inputs = [self.inputs(conditions, kept, sampling.negative, *given) for kept, _ in subsets]
        denoise = guide(self._predict, joined(inputs), [factor for _, factor in subsets])
        sampler = self._sampler(sampling, edit)
        levels: Sequence[NoiseLevel] = sampler.levels(self.path, sampling.steps)
        start = sample_noise(seeds, self.latent_shape).to(self.device)
        plain = edit.start == "noise" and not edit.finds_region and edit.label_map is None
        if priors is None or stored is None or plain:
            return on_cpu(self.decode(self._sampled(denoise, seeds, start, sampler, levels)))
        clean = self._clean(stored[:, :-1])
        if edit.finds_region:
            asked = [
                guide(self._predict, self.inputs(own, frozenset(self.parts), None, *given), [1.0])
                for own in (conditions, self.unchanged(conditions, sampling))
            ]
            noises = [sample_noise(seeds, self.latent_shape, "region", k).to(self.device) for k in range(PROBES)]
            found = changed_region(asked[0], asked[1], clean, self.path, noises)
            mode = "bilinear" if found.ndim == 4 else "trilinear"
            priors = priors.within(interpolate(found, self.spec.size, mode=mode))
        if edit.start != "noise":
            levels = from_strength(levels, self.path, edit.strength)
        if edit.start == "prior":
            start = levels[0].alpha * clean + levels[0].sigma * start
        elif edit.start == "inversion":
            # The text asks for a change; the prior image is what the model makes of all else, or of no change.
            others = self.inputs(conditions, frozenset(self.parts) - {"text"}, sampling.negative, *given)
            start = invert(guide(self._predict, others, [1.0]), clean, self.path, levels)
        if priors.regions is not None:
            denoise = held(denoise, self.path, clean, self._on_grid(priors.regions))
        return on_cpu(priors.outside(self.decode(self._sampled(denoise, seeds, start, sampler, levels))))

    @torch.no_grad()
    def trajectory(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: DiffusionSampling | None = None,
        window: range | None = None,
    ) -> DiffusionTrajectory:
        """Sample whole images from noise without guidance, and keep what trains a policy on them.

        Args:
            conditions: that `check` accepts.
            seeds: one integer an image; all of its noise is drawn from it, on the CPU.
            sampling: its steps, and its sampler where there is no window.
            window: steps that add noise, so that their samples have a density; the others are deterministic. None
                samples as `sample` does.
        """
        sampling = sampling or self.sampling
        self.check_conditions(conditions)
        self.model.eval()
        conditions = [self.completed(condition) for condition in conditions]
        priors = self.priors(conditions, FROM_NOISE)
        seen = None if priors is None else self.prior_inputs(self._stored(priors))
        given = self.mask_labels(conditions), seen, self.frame_positions(conditions, seeds)
        inputs = self.inputs(conditions, frozenset(self.parts), None, *given)
        denoise = guide(self._predict, inputs, [1.0])
        sampler = self._sampler(sampling) if window is None else stochastic(self.path)
        levels = sampler.levels(self.path, sampling.steps)
        start = sample_noise(seeds, self.latent_shape).to(self.device)
        if window is None:
            return DiffusionTrajectory(inputs, self._sampled(denoise, seeds, start, sampler, levels), [])
        steps: list[Step] = []
        clean = sampler.function(
            denoise,
            start,
            self.path,
            levels,
            noise_fn=lambda index: sample_noise(seeds, start.shape[1:], "step", index).to(self.device),
            callback=lambda step: steps.append(step) if step.std > 0 else None,
            window=window,
        )
        return DiffusionTrajectory(inputs, clean, steps)

    @torch.no_grad()
    def sample_patches(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        labels: Tensor,
        positions: Tensor,
        sampling: DiffusionSampling | None = None,
    ) -> Tensor:
        """See `ImageGenerator.sample_patches`."""
        sampling = sampling or self.sampling
        conditions, subsets = self._prepared(conditions, sampling)
        inputs = [
            self.context_inputs(conditions, kept, sampling.negative).of_patches(labels, positions, "mask" in kept)
            for kept, _ in subsets
        ]
        denoise = guide(self._predict, joined(inputs), [factor for _, factor in subsets])
        return on_cpu(self._from_noise(denoise, seeds, self.spec.shape, sampling))

    @torch.no_grad()
    def sample_windows(
        self, condition: Condition, seed: int, mask: WholeMask, sampling: DiffusionSampling | None = None
    ) -> Tensor:
        """See `ImageGenerator.sample_windows`; windows are blended at each step of the sampler."""
        sampling = sampling or self.sampling
        conditions, subsets = self._prepared([condition], sampling)
        contexts = [self.context_inputs(conditions, kept, sampling.negative) for kept, _ in subsets]
        factors = [factor for _, factor in subsets]

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            def predict(windows: Sequence[Window]) -> Tensor:
                labels, positions = mask.labels_of(windows), mask.positions_of(windows)
                inputs = [
                    context.repeated(len(windows)).of_patches(labels, positions, "mask" in kept)
                    for context, (kept, _) in zip(contexts, subsets, strict=True)
                ]
                parts = torch.stack([window.of(x[0]) for window in windows])
                return guide(self._predict, joined(inputs), factors)(parts, t.expand(len(windows)))

            return blended(predict, mask.frame, mask.tiling)[None]

        whole = self._from_noise(denoise, [seed], (self.spec.channels, *mask.frame), sampling)
        return on_cpu(mask.cropped(whole[0]))

    def cached_targets(
        self, source: ImageSource, folder: Path, device: torch.device, skip_bad: bool, verbose: bool
    ) -> tuple[NDArray[Any], list[int]]:
        """See `ImageGenerator`: images, or moments of their latents."""
        if self.autoencoder is None:
            return super().cached_targets(source, folder, device, skip_bad, verbose)
        return cached_moments(source, self.autoencoder, folder, device, skip_bad, verbose)

    def save_components(self, folder: Path) -> dict[str, Any]:
        """Write denoiser and autoencoder; an exportable one opens in diffusers from there."""
        if self.autoencoder is not None:
            self.autoencoder.save(folder / "vae")
        if isinstance(self.model.denoiser, UNet):
            self.model.denoiser.save_pretrained(folder / "denoiser")
        else:
            save_exportable(self.model, self.path, folder)
        return {
            "path": self.path.to_dict(),
            "prior_channels": self.model.prior_channels,
            "latent": self.autoencoder is not None,
        }

    @classmethod
    def from_components(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        spec: ImageSpec,
        text: TextEncoder,
        condition: ConditionEncoder | None,
    ) -> "DiffusionGenerator":
        """See `ImageGenerator`."""
        denoiser = UNet.from_pretrained(folder / "denoiser") if condition is not None else load_exportable(folder)
        model = DiffusionModel(text, condition, denoiser, settings["mask_classes"], settings["prior_channels"])
        autoencoder = load_autoencoder(folder / "vae").eval() if settings["latent"] else None
        read_as = settings["modality_as"], settings["train_text"]
        return cls(spec, path_from_dict(settings["path"]), model, autoencoder, *read_as)

    def prior_inputs(self, stored: Tensor) -> Tensor:
        """See `ImageGenerator`; of an autoencoder's moments the mean, in Stable Diffusion's conventions not scaled."""
        if self.autoencoder is None:
            return stored
        mean = stored[:, :-1].chunk(2, dim=1)[0]
        # Brooks et al. 2023, InstructPix2Pix, leave it as the encoder gives it.
        return torch.cat([mean if self.exportable else self._clean(stored[:, :-1]), stored[:, -1:]], dim=1)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of what was denoised: the autoencoder's decoder, or the identity."""
        return latents if self.autoencoder is None else self.autoencoder.decode(latents)

    def _prepared(
        self, conditions: Sequence[Condition], sampling: DiffusionSampling
    ) -> tuple[list[Condition], list[tuple[frozenset[str], float]]]:
        """The conditions as in training, and the subsets of their parts that guidance evaluates."""
        self.check_conditions(conditions)
        self.model.eval()
        subsets = guidance_coefficients(self.parts, self._scales(sampling))
        return [self.completed(condition) for condition in conditions], subsets

    def _sampler(self, sampling: DiffusionSampling, edit: Edit = FROM_NOISE) -> SamplerRow:
        """The sampler that is asked for; an inversion is undone by that of first order."""
        if edit.start == "inversion":
            return first_order(self.path)
        # Of an exportable network that of the exported pipeline.
        fitting = samplers_for(self.path)[0] if self.exportable else default_sampler(self.path)
        return get_sampler(sampling.sampler or fitting, self.path)

    def _from_noise(
        self, denoise: Denoise, seeds: Sequence[int], shape: Sequence[int], sampling: DiffusionSampling
    ) -> Tensor:
        """What the sampler makes of each seed's noise `(C, *spatial)`."""
        sampler, noise = self._sampler(sampling), sample_noise(seeds, shape).to(self.device)
        return self._sampled(denoise, seeds, noise, sampler, sampler.levels(self.path, sampling.steps))

    def _sampled(
        self,
        denoise: Denoise,
        seeds: Sequence[int],
        start: Tensor,
        sampler: SamplerRow,
        levels: Sequence[NoiseLevel],
    ) -> Tensor:
        """What a sampler makes of samples at the first of some levels; further noise is that of the seeds."""

        def noise_of_step(index: int) -> Tensor:
            return sample_noise(seeds, start.shape[1:], "step", index).to(self.device)

        if self.watch is not None:
            denoise = self._watched(denoise, levels, self.watch)
        return sampler.function(denoise, start, self.path, levels, noise_fn=noise_of_step)

    def _watched(self, denoise: Denoise, levels: Sequence[NoiseLevel], watch: Watch) -> Denoise:
        """A denoiser of which each step is watched; a sampler may evaluate it twice in a step."""
        times = [level.time for level in levels[:-1]]

        def seen(x: Tensor, t: Tensor) -> Tensor:
            prediction = denoise(x, t)
            time = float(t[0])
            index = min(range(len(times)), key=lambda place: abs(times[place] - time))
            data = partial(self.path.to_x0, prediction.to(x), x, t)
            watch(SamplingStep(index, len(times), lambda: on_cpu(self.decode(data()))))
            return prediction

        return seen

    def _stored(self, priors: Priors) -> Tensor:
        """Prior images as training data store them: pixels or moments, and a channel that says where there is one."""
        values = priors.images if self.autoencoder is None else self.autoencoder.moments(priors.images)
        present = priors.present.to(values).view(-1, *[1] * (values.ndim - 1))
        return torch.cat([values * present, present.expand(-1, 1, *values.shape[2:])], dim=1)

    def _clean(self, values: Tensor) -> Tensor:
        """What is denoised, of images as training data store them: themselves, or the mean of their latents."""
        if self.autoencoder is None:
            return values
        return self.autoencoder.sample(values, torch.zeros_like(values.chunk(2, dim=1)[0]))

    def _on_grid(self, regions: Tensor) -> Tensor:
        """Regions on the grid that is denoised: what has a pixel in the region may change."""
        grid = self.latent_shape[1:]
        pool = adaptive_max_pool3d if len(grid) == 3 else adaptive_max_pool2d
        return pool((regions > 0).to(regions), grid).to(self.device)

    def _scales(self, sampling: DiffusionSampling) -> dict[str, float]:
        return dict.fromkeys(self.parts, sampling.guidance) | dict(sampling.guidance_by_part)

    def _predict(self, x: Tensor, t: Tensor, inputs: ConditionTensors) -> Tensor:
        return self.path.predicted(self.model(x, self.path.time_embedding_value(t), inputs), x, t)
