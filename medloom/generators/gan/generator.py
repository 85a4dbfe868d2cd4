"""The GAN generator: from conditions and seeds to images in one step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import sample_noise
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.generators.base import ConditionedGenerator, ReadMask
from medloom.generators.gan.model import STYLE, GANModel
from medloom.generators.volumes import WholeMask, Window, blended


@dataclass(frozen=True)
class SamplingOptions:
    """What was asked for of a sampler, which a GAN does not have: kept to be refused. None is not asked for.

    Attributes:
        steps: of a sampler.
        guidance: scale for all parts of the condition.
        guidance_by_part: scales of single parts.
        sampler: its name.
        negative: text in place of the empty one.
    """

    steps: int | None = None
    guidance: float | None = None
    guidance_by_part: Mapping[str, float] = field(default_factory=dict)
    sampler: str | None = None
    negative: str | None = None

    @property
    def asked(self) -> list[str]:
        """The options that were asked for, as the user writes them."""
        alone = [
            f"--{name}" for name in ("steps", "guidance", "sampler", "negative") if getattr(self, name) is not None
        ]
        return alone + [f"--guidance-{part}" for part in self.guidance_by_part]


class GANGenerator(ConditionedGenerator):
    """Generates images of masks in one step.

    Attributes:
        reads_text: whether training had texts, and they reach the network.
        needs_mask: whether every image that it was trained on had a mask.
    """

    family = "gan"

    def __init__(
        self,
        spec: ImageSpec,
        model: GANModel,
        modality_as: str,
        train_text: bool,
        reads_text: bool = True,
        needs_mask: bool = True,
    ) -> None:
        if spec.spatial_dims == 2:
            # 2-D convolutions are faster with the channels last, on a CPU and on a GPU.
            model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(spec, model, modality_as, train_text)
        self.model: GANModel = model
        self.reads_text = reads_text and model.fused
        self.needs_mask = needs_mask

    @property
    def takes_text(self) -> bool:
        """Whether text or table condition it."""
        return self.model.fused and (self.reads_text or bool(self.columns))

    def to(self, device: torch.device | str) -> "GANGenerator":
        """Move all networks to a device."""
        self.model.to(device)
        return self

    def check_sampling(self, options: SamplingOptions | None) -> None:
        """Refuse options of a sampler.

        Raises:
            UserError: names those that were given.
        """
        if options is not None and options.asked:
            raise UserError(
                f"{', '.join(options.asked)}: a GAN makes an image in one step, without a sampler or guidance; leave"
                f" {'them' if len(options.asked) > 1 else 'it'} out."
            )

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions that the model cannot follow.

        Raises:
            UserError: as every family; or no mask for a model that was never trained without one.
        """
        super().check_conditions(conditions)
        if self.needs_mask and any(condition.mask is None for condition in conditions):
            raise UserError(
                "the model makes images of masks and was never trained without one; give --mask, or a column mask."
            )

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
            options: none may be given; see `check_sampling`.
            read_mask: reads the label map of a condition.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.

        Raises:
            UserError: a condition or option that does not fit the model.
        """
        known = self._prepared(conditions, options)
        inputs = self.inputs(known, frozenset(self.parts), read_mask=read_mask)
        noise = sample_noise(seeds, self.spec.shape).to(self.device)
        return _finished(self.model(noise, self._style(seeds), inputs)[0])

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
        tensors = self.told(self._prepared(conditions, options), frozenset(self.parts))
        noise = sample_noise(seeds, self.spec.shape).to(self.device)
        return _finished(self.model(noise, self._style(seeds), self._seen(tensors, labels, places))[0])

    @torch.no_grad()
    def generate_whole(
        self, condition: Condition, seed: int, mask: WholeMask, options: SamplingOptions | None = None
    ) -> Tensor:
        """As every family that was trained on patches: windows of one noise, with one style, are made and blended."""
        tensors = self.told(self._prepared([condition], options), frozenset(self.parts))
        noise = sample_noise([seed], (self.spec.channels, *mask.frame))[0]
        style = self._style([seed])

        def predict(windows: Sequence[Window]) -> Tensor:
            count = len(windows)
            repeated = {
                name: None if value is None else value.expand(count, *value.shape[1:])
                for name, value in tensors.items()
            }
            inputs = self._seen(repeated, mask.labels_of(windows), mask.places_of(windows))
            parts = torch.stack([window.of(noise) for window in windows]).to(self.device)
            return self.model(parts, style.expand(count, -1), inputs)[0]

        return _finished(mask.cropped(blended(predict, mask.frame, mask.tiling)))

    def _prepared(self, conditions: Sequence[Condition], options: SamplingOptions | None) -> list[Condition]:
        """The conditions, checked and completed."""
        self.check_sampling(options)
        self.check_conditions(conditions)
        self.model.eval()
        return [self.completed(condition) for condition in conditions]

    def _style(self, seeds: Sequence[int]) -> Tensor:
        """The noise vector of each image, `(N, style width)`."""
        return sample_noise(seeds, (self.model.network.config.style_width,), STYLE).to(self.device)

    def _seen(self, told: Mapping[str, Tensor | None], labels: Tensor, places: Tensor) -> dict[str, Tensor | None]:
        """The tensors of some patches: what they are told, their labels, their places."""
        return {**told, "labels": labels.to(self.device), "place": places.to(self.device)}


def _finished(images: Tensor) -> Tensor:
    """Images as they leave the generator: float32 on the CPU, in [-1, 1]."""
    return images.clamp(-1, 1).float().cpu()
