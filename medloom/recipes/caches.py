"""Decoded images or latents, masks, texts and tables of the rows of a run, on disk or in memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from medloom.data.cache import RaggedTexts
    from medloom.data.dataset import ImageSource
    from medloom.generators.conditioned import ConditionedGenerator
    from medloom.generators.conditioned_data import TrainingData


class Caches:
    """Decoded images or latents, masks and texts of the rows of a run, on disk."""

    def __init__(self, folder: Path, skip_bad: bool, generator: "ConditionedGenerator", accelerator: Any) -> None:
        self.folder = folder
        self.skip_bad = skip_bad
        self.generator = generator
        self.accelerator = accelerator

    def data(self, source: "ImageSource") -> "TrainingData":
        """The training data of a source; the main process fills the cache, the others wait and read it."""
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
        data = self._data(source, self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
        return data

    def _data(self, source: "ImageSource", shown: bool) -> "TrainingData":
        from medloom.data.dataset import cached_labels, cached_usable_images
        from medloom.generators.conditioned_data import TrainingData
        from medloom.generators.diffusion.latents import cached_moments

        autoencoder = self.generator.autoencoder
        if autoencoder is None:
            targets, usable = cached_usable_images(source, self.folder, self.skip_bad, shown)
        else:
            device = self.accelerator.device
            targets, usable = cached_moments(source, autoencoder, self.folder, device, self.skip_bad, shown)
        labels = cached_labels(source, self.folder, shown) if self.generator.model.mask_classes else None
        conditions = [sample.condition for sample in source.samples]
        return TrainingData(targets, usable, conditions, self._texts(source, shown), labels, self._cells(source))

    def _cells(self, source: "ImageSource") -> "Tensor | None":
        """The columns of the table that the model is told, encoded."""
        encoder = self.generator.model.condition
        if encoder is None or not self.generator.columns:
            return None
        return encoder.cells([sample.condition.table for sample in source.samples])

    def _texts(self, source: "ImageSource", shown: bool) -> "RaggedTexts":
        from medloom.generators.conditioned_data import all_prompts
        from medloom.generators.diffusion.latents import cached_embeddings, token_ids

        generator = self.generator
        conditions = [sample.condition for sample in source.samples]
        texts = all_prompts(conditions, generator.modality_as, generator.parts)
        if generator.train_text:
            return token_ids(generator.model.text, texts, shown)
        return cached_embeddings(generator.model.text, texts, self.folder, self.accelerator.device, shown)
