"""What every family of generators has: image = generator(condition, seed), for every part that it was trained with."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import hash_folder, write_json
from medloom.core.image import Image
from medloom.core.lookup import look_up
from medloom.core.spec import ImageSpec
from medloom.core.types import DAYS, Condition, ImagePart
from medloom.data.condition_reader import named
from medloom.data.dataset import ImageSource, cached_usable_images
from medloom.data.manifest import Manifest
from medloom.data.masks import require_axes, require_known
from medloom.data.padding import bordered
from medloom.generators.arguments import paired, require_device
from medloom.generators.condition_inputs import ConditionInputs
from medloom.generators.conditioned_generator import Model
from medloom.generators.finite_images import require_finite_images
from medloom.generators.framing import crop_images, frame_images, window_image
from medloom.generators.generated_images import GeneratedImage, GeneratedImages
from medloom.generators.sampling import FROM_NOISE, WHOLE, Edit, Framing, Sampling, require_kinds
from medloom.generators.support import refuse_part
from medloom.generators.volumes import WholeMask
from medloom.generators.watching import Watch
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder
from medloom.networks.tokenizer import Tokenizer
from medloom.report_text.progression import NO_CHANGE

SETTINGS = "generator.json"
# What a run keeps of how its images are sampled; all of it can be asked for otherwise.
KEPT = ("steps", "guidance", "guidance_by_part", "sampler")


class ImageGenerator(ConditionInputs[Model, Sampling]):
    """An image generator, trained or about to be.

    Attributes:
        family: name of the family.
        sampling: how it samples where nothing else is asked for.
        spec (ImageSpec): the model's image space.
        model (ConditionalModel): networks, in evaluation mode for sampling.
        autoencoder: between pixels and latents, or None.
        tokenizer: between pixels and tokens, or None.
        modality_as (str): how the modality conditions the model: text, token or both.
        train_text (bool): whether the text encoder belongs to the trained weights.
        reads_text: whether a text can change the image; where not, a prompt is refused.
        masks (MaskSpec): the classes of masks, by name, and which of them the model does not see.
        unit: of the values of condition files that do not state theirs.
        trained_on: what the training images had, or None for a generator that was not trained.
        extents: what part of the model's frame the training images fill, or None where none is padded.
        folder: its components on disk, or None for a generator that was not loaded.
        watch: is given each step of sampling, or None; see `watched`.

    Examples:
        >>> import medloom
        >>> model = medloom.load("runs/mm")
        >>> condition = medloom.Condition("Small left effusion.", "CXR")
        >>> images = model.generate(condition, seeds=range(3))
        >>> images.pixels.shape
        (3, 1, 16, 16)
    """

    autoencoder: KLAutoencoder | None = None
    tokenizer: Tokenizer | None = None
    folder: Path | None = None
    watch: Watch | None = None

    # What a user calls.

    def generate(
        self,
        conditions: Condition | Sequence[Condition],
        *,
        seed: int | None = None,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        edit: Edit = FROM_NOISE,
        framing: Framing = WHOLE,
        allow_unseen: bool = False,
    ) -> GeneratedImages:
        """Generate images; warns of texts that are cut and of parts that are unknown.

        Args:
            conditions: what the images show. One condition and k seeds make k images, k conditions and k seeds make
                pairs.
            seed: of one image; all of its noise is drawn from it.
            seeds: one integer an image, 0 or more (default: 0, 1, ... one a condition).
            sampling: steps, guidance and so on; by default `self.sampling`.
            edit: for an editor, what to start from and where the image may change.
            framing: for a model that was trained on patches, how an image of its mask's size is put together.
            allow_unseen: allow numbers of the table outside those in training; the images are extrapolations.

        Returns:
            The images in the values of their modality, with geometry and provenance; none of no condition.

        Raises:
            UserError: a part, value or option that the model cannot follow, or numbers of conditions and seeds that do
                not match.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm")
            >>> texts = ["Normal chest.", "Small left effusion."]
            >>> conditions = [medloom.Condition(text, "CXR") for text in texts]
            >>> normal, effusion = model.generate(conditions, seeds=[7, 7])
            >>> effusion.pixels.shape, effusion.unit
            ((1, 16, 16), 'grey level')
        """
        asked, numbers = paired(conditions, seed, seeds)
        sampling = sampling or self.sampling
        for given, wanted in ((sampling, type(self.sampling)), (edit, Edit), (framing, Framing)):
            if not isinstance(given, wanted):
                raise UserError(f"give {wanted.__name__} to a {self.family} model, not {given!r}.")
        # A column that is not given is unknown; one that the model does not know is a slip of the pen.
        unknown: dict[str, float | str | None] = {column.name: None for column in self.columns}
        for name in {name for condition in asked for name in condition.table}:
            look_up(unknown, name, "column of the table that conditions the model")
        asked = [replace(condition, table={**unknown, **condition.table}) for condition in asked]
        self.check(asked, sampling, edit, framing, allow_unseen)
        if edit.label_map is not None:
            self.reader.check_region(edit.label_map, asked)
        for remark in (*self.cut_texts(asked, sampling), *self.rules.remarks(asked)):
            warnings.warn(remark, stacklevel=2)
        if not asked:
            return GeneratedImages([])
        made = self.images(asked, numbers, sampling, edit, framing)
        return GeneratedImages(
            GeneratedImage(*each, model_hash=self.model_hash) for each in zip(made, asked, numbers, strict=True)
        )

    def edit(
        self,
        prior: ImagePart | str,
        text: str,
        *,
        days: float | None = None,
        modality: str | None = None,
        view: str | None = None,
        seed: int | None = None,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        edit: Edit | None = None,
        allow_unseen: bool = False,
    ) -> GeneratedImages:
        """What a prior image may look like after an instruction, and after some days.

        Args:
            prior: the prior image: a file, an `Image` or values.
            text: the instruction.
            days: between the prior image and the edited one, for an editor that was trained on pairs with their days.
            modality: of the image, as named in the manifest.
            view: of the image.
            seed: as in `generate`.
            seeds: as in `generate`.
            sampling: as in `generate`.
            edit: what to start from and where the image may change: by default from noise, and by a model that learnt
                an instruction for no change only where this one makes a difference to it.
            allow_unseen: as in `generate`.

        Raises:
            UserError: the model is no editor, or as `generate`.

        Examples:
            >>> import medloom
            >>> editor = medloom.load("runs/edit")
            >>> edited = editor.edit("images/1.png", "The effusion has resolved.", seed=0)
            >>> edited.pixels.shape
            (1, 1, 16, 16)
        """
        if days is not None:
            self.check_days(f"days={days}")
        table = {} if days is None else {DAYS: days}
        condition = Condition(text, modality, view, Path(prior) if isinstance(prior, str) else prior, table=table)
        usual = Edit() if edit is None else edit
        if isinstance(usual, Edit):
            usual = self.with_region(usual)
        return self.generate(
            condition, seed=seed, seeds=seeds, sampling=sampling, edit=usual, allow_unseen=allow_unseen
        )

    @contextmanager
    def watched(self, watch: Watch | None) -> Iterator[None]:
        """Within the block, `watch` is given each step of sampling; a GAN, which has one step, has none to give.

        Args:
            watch: a function of a `SamplingStep`; None for no watching.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm")
            >>> steps = []
            >>> with model.watched(lambda step: steps.append(step.index)):
            ...     image = model.generate(medloom.Condition("Normal chest.", "CXR"), seed=3)[0]
            >>> len(steps) == model.sampling.steps
            True
        """
        before, self.watch = self.watch, watch
        try:
            yield
        finally:
            self.watch = before

    def conditions(self, manifest: Manifest) -> list[Condition]:
        """The conditions of a manifest's rows: of each the parts that the model takes, for `generate`.

        Args:
            manifest: the rows.

        Raises:
            UserError: no manifest, or a row lacks a column, or has a value, that the model needs or does not know;
                names the line.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm")
            >>> conditions = model.conditions(medloom.read_manifest("test.csv"))
            >>> images = model.generate(conditions, seeds=range(len(conditions)))
            >>> len(images)
            4
        """
        if not isinstance(manifest, Manifest):
            raise UserError(f"conditions: {manifest!r} is no manifest; give medloom.read_manifest(PATH).")
        return [self.row_condition(row.condition, f"{manifest.source}, line {row.line}") for row in manifest.samples()]

    def check(
        self,
        conditions: Sequence[Condition],
        sampling: Sampling | None = None,
        edit: Edit = FROM_NOISE,
        framing: Framing = WHOLE,
        allow_unseen: bool = False,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """Refuse, before anything is generated, what the model cannot follow.

        Args:
            conditions: as in `generate`, as a list.
            sampling: as in `generate`.
            edit: as in `generate`.
            framing: as in `generate`.
            allow_unseen: as in `generate`.
            without: parts that are left out on purpose, whatever training had.

        Raises:
            UserError: a part that it was not trained with, or none of one that every training image had; a modality,
                view, category, number or mask class that training had not; sampling options, an edit or a framing that
                does not fit it.

        Examples:
            >>> import medloom
            >>> medloom.load("runs/mm").check([medloom.Condition("Normal brain.", "MRI")])
            Traceback (most recent call last):
                ...
            medloom.core.errors.UserError: modality 'MRI' was never trained on; known: CXR.
        """
        if not self.reads_text and any(condition.text is not None for condition in conditions):
            raise UserError("the model was trained without texts and reads none; leave the text (--prompt) out.")
        for part in ("mask", "prior"):
            if part not in self.parts and any(getattr(condition, part) is not None for condition in conditions):
                refuse_part(self.family, part)
        self.check_conditions(conditions)
        if self.spec.patch and any(condition.mask is None for condition in conditions):
            raise UserError(
                "the model was trained on patches and generates an image of its mask's size: name one with --mask, or"
                " in a column mask."
            )
        self.rules.check(conditions, allow_unseen, without)
        sampling = sampling or self.sampling
        require_kinds(sampling)
        self.check_sampling(sampling, edit)
        if edit.finds_region and not (sampling.negative or self.learnt_no_change):
            raise UserError(
                f"--region auto: no training image had the instruction {NO_CHANGE!r}; say with --negative what asks for"
                " no change, or leave --region out."
            )
        framing.check(self.spec)
        masked = [condition for condition in conditions if condition.mask is not None]
        # A file that several conditions share is read once.
        for condition in {condition.mask_file or id(condition): condition for condition in masked}.values():
            mask, name = self.reader.mask(condition), named(condition.mask, "mask")
            require_axes(mask, name, self.spec)
            require_known(mask.pixels[0], name, self.masks)
        edited = [condition for condition in conditions if condition.prior is not None]
        for condition in {condition.prior_file or id(condition): condition for condition in edited}.values():
            self.reader.prior(condition)

    def save(self, folder: Path) -> None:
        """Write all components to a folder: safetensors and JSON, in the diffusers layout where a class exists.

        Args:
            folder: of the components; created if it does not exist.

        Examples:
            >>> import medloom
            >>> from pathlib import Path
            >>> medloom.load("runs/mm").save(Path("copy"))
            >>> sorted(path.name for path in Path("copy").iterdir())
            ['condition', 'denoiser', 'generator.json', 'text_encoder', 'tokenizer']
        """
        self.model.text.save(folder / "tokenizer", folder / "text_encoder")
        if self.model.condition is not None:
            self.model.condition.save_pretrained(folder / "condition")
        settings = {
            "family": self.family,
            "spec": self.spec.to_dict(),
            "modality_as": self.modality_as,
            "train_text": self.train_text,
            "max_tokens": self.model.text.max_tokens,
            "pad": self.model.text.pad,
            "mask_classes": list(self.model.mask_classes),
            "masks": self.masks.to_dict(),
            "reads_text": self.reads_text,
            "exportable": self.exportable,
            "sampling": {name: value for name, value in asdict(self.sampling).items() if name in KEPT},
            "trained_on": None if self.trained_on is None else self.trained_on.to_dict(),
            **({} if self.extents is None else {"extents": self.extents.to_dict()}),
            **self.save_components(folder),
        }
        write_json(folder / SETTINGS, settings)

    # What a family defines.

    @abstractmethod
    def check_sampling(self, sampling: Sampling, edit: Edit = FROM_NOISE) -> None:
        """Refuse sampling options and edits that do not fit the model."""

    @abstractmethod
    def sample(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        edit: Edit = FROM_NOISE,
    ) -> Tensor:
        """One image a condition in the model's space.

        Args:
            conditions: that `check` accepts.
            seeds: one integer an image; all noise of an image is drawn from its seed, on the CPU.
            sampling: how images are sampled.
            edit: what an editor starts from, and where it may change the image.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.
        """

    @abstractmethod
    def save_components(self, folder: Path) -> dict[str, Any]:
        """Write the components that are the family's own to `folder`; returns settings that `from_components` needs."""

    @classmethod
    @abstractmethod
    def from_components(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        spec: ImageSpec,
        text: TextEncoder,
        condition: ConditionEncoder | None,
    ) -> "ImageGenerator[Model, Sampling]":
        """The generator that `save_components` wrote, on the CPU.

        Args:
            folder: the components.
            settings: all that generator.json says.
            spec: the model's image space.
            text: the text encoder, loaded.
            condition: the condition encoder, loaded; None in Stable Diffusion's conventions.
        """

    def sample_patches(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        labels: Tensor,
        positions: Tensor,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """One patch a condition, for a model that was trained on patches.

        Args:
            conditions: what the patches show.
            seeds: one integer a patch.
            labels: the label maps of the patches, int64 `(N, *size)`.
            positions: where they lie in their images, float32 `(N, axes, 2)`; see `data.patches.position_of`.
            sampling: how images are sampled.

        Returns:
            float32 `(N, C, *size)` in [-1, 1], on the CPU.

        Raises:
            UserError: the family generates whole images only.
        """
        raise UserError(f"a {self.family} generates whole images of {self.spec.size} pixels, not patches.")

    def sample_windows(
        self, condition: Condition, seed: int, mask: WholeMask, sampling: Sampling | None = None
    ) -> Tensor:
        """One image of its mask's size, for a model that was trained on patches.

        Args:
            condition: what the image shows.
            seed: all of the image's noise is drawn from it, on the CPU.
            mask: the label map at the model's spacing, of any size, and the windows that see it.
            sampling: how images are sampled.

        Returns:
            float32 `(C, *size of the mask)` in [-1, 1], on the CPU.

        Raises:
            UserError: the family generates images of one size only.
        """
        raise UserError(f"a {self.family} generates images of {self.spec.size} pixels, not of a mask's size.")

    def to(self, device: torch.device | str) -> "ImageGenerator[Model, Sampling]":
        """Move all networks to a device.

        Args:
            device: cpu, cuda, cuda:1, ...

        Returns:
            The generator itself.

        Raises:
            UserError: no such device.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm").to("cpu")
        """
        require_device(device)
        for module in (self.model, self.autoencoder, self.tokenizer):
            if module is not None:
                module.to(device)
        return self

    def cached_targets(
        self, source: ImageSource, folder: Path, device: torch.device, skip_bad: bool, verbose: bool
    ) -> tuple[NDArray[Any], list[int]]:
        """What the family is trained on, by row, on disk: images, latents or tokens; and the rows that can be used.

        Args:
            source: the images.
            folder: the cache.
            device: where encoders run.
            skip_bad: leave out rows that cannot be used instead of refusing them.
            verbose: whether to show progress.

        Returns:
            Array `(rows, C, *spatial)`, memory-mapped, and row numbers.

        Raises:
            UserError: images that cannot be used, or too little disk.
        """
        return cached_usable_images(source, folder, skip_bad, verbose)

    # What all families share.

    @cached_property
    def model_hash(self) -> str:
        """A hash of the components on disk; empty for a generator that was not loaded."""
        return "" if self.folder is None else hash_folder(self.folder)

    def images(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: Sampling,
        edit: Edit = FROM_NOISE,
        framing: Framing = WHOLE,
    ) -> list[Image]:
        """As `generate`, of conditions that were checked: the images in the values of their modality.

        Raises:
            UserError: values that are not finite; names what made them.
        """
        if not self.spec.patch:
            return self.framed(conditions, seeds, self.sample(conditions, seeds, sampling, edit), sampling)
        finite = partial(require_finite_images, sampling=sampling, networks=self.networks)
        if framing.crops:
            return crop_images(
                self.reader,
                conditions,
                seeds,
                lambda labels, positions: finite(self.sample_patches(conditions, seeds, labels, positions, sampling)),
            )

        def windows(condition: Condition, seed: int, mask: WholeMask) -> Tensor:
            return finite(self.sample_windows(condition, seed, mask, sampling))

        return [
            window_image(self.reader, condition, framing, partial(windows, condition, seed))
            for condition, seed in zip(conditions, seeds, strict=True)
        ]

    @property
    def networks(self) -> dict[str, nn.Module | None]:
        """All networks, by what they are called in messages."""
        return {"model": self.model, "autoencoder": self.autoencoder, "tokenizer": self.tokenizer}

    def framed(
        self, conditions: Sequence[Condition], seeds: Sequence[int], samples: Tensor, sampling: Sampling
    ) -> list[Image]:
        """Whole images of a model `(N, C, *size)`, on the CPU, in the values of their modality.

        Raises:
            UserError: values that are not finite; names what made them.
        """
        arrays = require_finite_images(samples, sampling=sampling, networks=self.networks).numpy()
        extents = self.frame_extents(conditions, seeds)
        if extents is not None:
            # Padding is exactly what it was in training images, not nearly.
            arrays = np.stack([bordered(array, extent) for array, extent in zip(arrays, extents, strict=True)])
        return frame_images(self.reader, conditions, arrays)


# A generator of any family, where nothing depends on its networks and its sampling options.
AnyGenerator: TypeAlias = ImageGenerator[Any, Any]


def on_cpu(images: Tensor) -> Tensor:
    """Images as they leave a generator: float32 on the CPU, in [-1, 1]."""
    return images.clamp(-1, 1).float().cpu()
