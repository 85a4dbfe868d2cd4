"""Decoded images or latents, masks, texts and tables of the rows of a run, on disk or in memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.progress import say
from medloom.core.types import Condition
from medloom.data.cache import PackedTexts, cached_texts, packed_ids
from medloom.data.dataset import ImageSource, cached_usable_labels
from medloom.data.laterality import mirrored_condition
from medloom.data.masks import opposite_classes
from medloom.data.patches import PatchRules
from medloom.data.volume_cache import cached_positions, cached_whole_images, cached_whole_labels, whole_sizes
from medloom.generators.base import AnyGenerator
from medloom.generators.training_data import PatchData, PriorData, TrainingData, all_prompts
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder, embed_texts


class RowCaches:
    """Decoded images or latents, masks and texts of the rows of a run, on disk."""

    def __init__(
        self,
        folder: Path,
        skip_bad: bool,
        generator: AnyGenerator,
        accelerator: Accelerator,
        patches: PatchRules | None = None,
        unregistered: float = 1.0,
    ) -> None:
        self.folder = folder
        self.skip_bad = skip_bad
        self.generator = generator
        self.accelerator = accelerator
        self.patches = patches
        self.unregistered = unregistered

    def data(self, source: ImageSource) -> TrainingData:
        """The training data of a source; the main process fills the cache, the others wait and read it.

        Raises:
            UserError: images or masks that cannot be used, or too little disk.
        """
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
        verbose = self.accelerator.is_main_process
        data = self._data(source, verbose) if self.patches is None else self._whole(source, self.patches, verbose)
        if self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
        return data

    def _data(self, source: ImageSource, verbose: bool) -> TrainingData:

        targets, usable = self._targets(source, verbose)
        labels = None
        if self.generator.model.mask_classes:
            labels, masked = cached_usable_labels(source, self.folder, self.skip_bad, verbose)
            usable = _both(usable, masked)
        priors = None
        if self.generator.model.prior_channels:
            priors, usable = self._priors(source, targets, usable, verbose)
        conditions = [sample.condition for sample in source.samples]
        texts = self._texts(conditions, verbose)
        cells = self._cells(conditions)
        contents = source.contents() if self.generator.knows_padding else None
        return TrainingData(targets, usable, conditions, texts, labels, cells, priors=priors, contents=contents)

    def _targets(self, source: ImageSource, verbose: bool) -> tuple[NDArray[Any], list[int]]:
        """Images, the moments of their latents, or their tokens, and the rows that can be used."""
        return self.generator.cached_targets(source, self.folder, self.accelerator.device, self.skip_bad, verbose)

    def _priors(
        self, source: ImageSource, targets: NDArray[Any], usable: list[int], verbose: bool
    ) -> tuple[PriorData, list[int]]:
        """The prior images, and the usable rows less those whose prior image cannot be used.

        Raises:
            UserError: prior images that cannot be used, unless such rows are skipped.
        """
        if all(sample.condition.prior is None for sample in source.samples):
            return PriorData([targets[:1]], [-1] * len(source.samples)), usable
        registered = any(sample.registered_prior is not None for sample in source.samples)
        versions = []
        for aligned in (False, True) if registered else (False,):
            priors, entries = source.priors(aligned)
            images, good = self._targets(priors, verbose)
            versions.append(images)
            fine = {-1, *good}
            usable = [row for row in usable if entries[row] in fine]
        return PriorData(versions, entries, self.unregistered if registered else 1.0), usable

    def _whole(self, source: ImageSource, rules: PatchRules, verbose: bool) -> TrainingData:
        """Whole images that patches are cut from."""
        sizes = whole_sizes(source)
        images, usable = cached_whole_images(source, sizes, self.folder, self.skip_bad, verbose)
        labels, places = None, None
        if self.generator.model.mask_classes:
            labels, masked = cached_whole_labels(source, sizes, self.folder, self.skip_bad, verbose)
            places, usable = cached_positions(source, labels, self.folder, verbose), _both(usable, masked)
        conditions = [sample.condition for sample in source.samples]
        patches = self._mirrored(source, PatchData(rules, places)) if rules.flip else PatchData(rules, places)
        texts = self._texts([*conditions, *patches.mirrored], verbose)
        return TrainingData(images, usable, conditions, texts, labels, self._cells(conditions), patches)

    def _mirrored(self, source: ImageSource, patches: PatchData) -> PatchData:
        """With the conditions of mirror images.

        Raises:
            UserError: a side whose other side the model does not know.
        """
        from dataclasses import replace

        conditions = [mirrored_condition(sample.condition) for sample in source.samples]
        try:
            self.generator.check_conditions(conditions)
        except UserError as error:
            raise UserError(f"--flip: {error}") from error
        sides = opposite_classes(source.masks)
        return replace(patches, sides=sides, mirrored=conditions, mirrored_cells=self._cells(conditions))

    def _cells(self, conditions: Sequence[Condition]) -> Tensor | None:
        """The columns of the table that condition the model, encoded."""
        encoder: ConditionEncoder | None = self.generator.model.condition
        if encoder is None or not self.generator.columns:
            return None
        return encoder.cells([condition.table for condition in conditions])

    def _texts(self, conditions: Sequence[Condition], verbose: bool) -> PackedTexts:

        generator = self.generator
        texts = all_prompts(conditions, generator.modality_as, generator.parts)
        if generator.train_text:
            return token_ids(generator.model.text, texts, verbose)
        return cached_embeddings(generator.model.text, texts, self.folder, self.accelerator.device, verbose)


def _both(images: list[int], masks: list[int]) -> list[int]:
    """The rows whose image and mask can be used.

    Raises:
        UserError: there is no such row.
    """
    masked = set(masks)
    usable = [row for row in images if row in masked]
    if images and not usable:
        raise UserError("no row of the manifest has both an image and a mask that can be used.")
    return usable


def weights_hash(module: nn.Module) -> str:
    """A hash of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def cached_embeddings(
    encoder: TextEncoder, texts: Sequence[str], folder: Path, device: torch.device, verbose: bool
) -> PackedTexts:
    """Embeddings of a frozen text encoder, float16, equal texts once, padding trimmed."""
    _report_cut(encoder, texts, verbose)
    encoder.eval()

    def embed(batch: Sequence[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        return [(tokens.numpy(), pooled.numpy()) for tokens, pooled in embed_texts(encoder, batch, device)]

    key = {
        "encoder": weights_hash(encoder),
        "vocabulary": hash_json(encoder.tokenizer.get_vocab()),
        "max_tokens": encoder.max_tokens,
        "pad": encoder.pad,
    }
    return cached_texts(folder, key, texts, embed, verbose)


def token_ids(encoder: TextEncoder, texts: Sequence[str], verbose: bool) -> PackedTexts:
    """Token ids for an encoder that is trained with the generator."""
    _report_cut(encoder, texts, verbose)

    def ids(text: str) -> Sequence[int]:
        numbers, mask = encoder.tokenize([text])
        return numbers[0].tolist() if encoder.pad == "max" else numbers[0][mask[0]].tolist()

    return packed_ids(texts, ids)


def _report_cut(encoder: TextEncoder, texts: Sequence[str], verbose: bool) -> None:
    counts = encoder.count_tokens(texts) if texts else []
    cut = [count for count in counts if count > encoder.max_tokens]
    if cut and verbose:
        say(
            f"{len(cut)} of {len(texts)} texts are longer than {encoder.max_tokens} tokens and are cut"
            f" (the longest has {max(cut)}); --text.max-tokens allows more where the encoder does."
        )
