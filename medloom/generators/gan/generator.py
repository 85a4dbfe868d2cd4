"""The GAN generator: from conditions and seeds to images in one step."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import sample_noise
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.generators.base import ImageGenerator, on_cpu
from medloom.generators.gan.model import GANInputs, GANModel
from medloom.generators.sampling import FROM_NOISE, Edit, GANSampling
from medloom.generators.volumes import WholeMask, Window, blended
from medloom.networks.blocks import with_fast_layout
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.gan_generators import load_image_network
from medloom.networks.text import TextEncoder
from medloom.networks.weights import widened

# Names what is drawn from a seed: frozen, since images depend on it.
STYLE = "style"


class GANGenerator(ImageGenerator[GANModel, GANSampling]):
    """Generates images in one step.

    Attributes:
        reads_text: whether training had texts, and they reach the network.
    """

    family = "gan"
    sampling = GANSampling()

    def __init__(
        self,
        spec: ImageSpec,
        model: GANModel,
        modality_as: str,
        train_text: bool,
        reads_text: bool = True,
    ) -> None:
        model.network = with_fast_layout(model.network, spec.spatial_dims)
        super().__init__(spec, model, modality_as, train_text)
        self.reads_text = reads_text and model.fused

    @property
    def takes_text(self) -> bool:
        """Whether text, view and table reach the network."""
        return self.model.fused

    @property
    def takes_positions(self) -> bool:
        """See `ImageGenerator`: a network that was built for padded images does."""
        return self.model.network.config.padding

    def learn_padding(self) -> None:
        """See `ImageGenerator`."""
        network = self.model.network
        if not network.config.padding:
            grown = widened(network, replace(network.config, padding=True))
            self.model.network = with_fast_layout(grown, self.spec.spatial_dims)

    def save_components(self, folder: Path) -> dict[str, Any]:
        """Write the network."""
        self.model.network.save_pretrained(folder / "network")
        return {}

    @classmethod
    def from_components(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        spec: ImageSpec,
        text: TextEncoder,
        condition: ConditionEncoder | None,
    ) -> "GANGenerator":
        """See `ImageGenerator`."""
        if condition is None:
            raise TypeError("a GAN has a condition encoder")
        model = GANModel(text, condition, load_image_network(folder / "network"), settings["mask_classes"])
        read_as = settings["modality_as"], settings["train_text"], settings["reads_text"]
        return cls(spec, model, *read_as)

    def check_sampling(self, sampling: GANSampling, edit: Edit = FROM_NOISE) -> None:
        """Refuse options of a sampler, and edits.

        Raises:
            UserError: names those that were given.
        """
        if sampling.asked:
            raise UserError(
                f"{', '.join(sampling.asked)}: a GAN generates an image in one step, without a sampler or guidance;"
                f" leave {'them' if len(sampling.asked) > 1 else 'it'} out."
            )
        edit.require_prior(self.parts)

    @torch.no_grad()
    def sample(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: GANSampling | None = None,
        edit: Edit = FROM_NOISE,
    ) -> Tensor:
        """See `ImageGenerator.sample`."""
        known = self._prepared(conditions, sampling, edit)
        labels, positions = self.mask_labels(known), self.frame_positions(known, seeds)
        condition = self.inputs(known, frozenset(self.parts), labels=labels, positions=positions)
        noise = sample_noise(seeds, self.spec.shape).to(self.device)
        return on_cpu(self.model(GANInputs(noise, self._style(seeds), condition))[0])

    @torch.no_grad()
    def sample_patches(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        labels: Tensor,
        positions: Tensor,
        sampling: GANSampling | None = None,
    ) -> Tensor:
        """See `ImageGenerator.sample_patches`."""
        context = self.context_inputs(self._prepared(conditions, sampling), frozenset(self.parts))
        noise = sample_noise(seeds, self.spec.shape).to(self.device)
        condition = context.of_patches(labels, positions)
        return on_cpu(self.model(GANInputs(noise, self._style(seeds), condition))[0])

    @torch.no_grad()
    def sample_windows(
        self, condition: Condition, seed: int, mask: WholeMask, sampling: GANSampling | None = None
    ) -> Tensor:
        """See `ImageGenerator.sample_windows`: windows of one noise, with one style, are generated and blended."""
        context = self.context_inputs(self._prepared([condition], sampling), frozenset(self.parts))
        noise = sample_noise([seed], (self.spec.channels, *mask.frame))[0]
        style = self._style([seed])

        def predict(windows: Sequence[Window]) -> Tensor:
            count = len(windows)
            seen = context.repeated(count).of_patches(mask.labels_of(windows), mask.positions_of(windows))
            parts = torch.stack([window.of(noise) for window in windows]).to(self.device)
            made: Tensor = self.model(GANInputs(parts, style.expand(count, -1), seen))[0]
            return made

        return on_cpu(mask.cropped(blended(predict, mask.frame, mask.tiling)))

    def _prepared(
        self, conditions: Sequence[Condition], sampling: GANSampling | None, edit: Edit = FROM_NOISE
    ) -> list[Condition]:
        """The conditions, checked and as in training."""
        self.check_sampling(sampling or self.sampling, edit)
        self.check_conditions(conditions)
        self.model.eval()
        return [self.completed(condition) for condition in conditions]

    def _style(self, seeds: Sequence[int]) -> Tensor:
        """The noise vector of each image, `(N, style width)`."""
        return sample_noise(seeds, (self.model.network.config.style_width,), STYLE).to(self.device)
