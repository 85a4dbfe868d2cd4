"""The images of a manifest as a torch dataset, to train any network on real or generated images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from medloom.core.spec import ImageSpec
from medloom.data.condition_reader import ConditionReader
from medloom.data.dataset import measure_spec
from medloom.data.manifest import Manifest, read_manifest


class Item(TypedDict):
    """One image with its annotations."""

    image: Tensor
    text: str
    modality: str
    view: str
    patient: str
    table: dict[str, float | str | None]
    mask: Tensor | None


class Dataset(TorchDataset[Item]):
    """Images of a manifest, float32 `(C, *size)` in [-1, 1], with text, modality, view, patient, table and mask.

    Attributes:
        manifest (Manifest): the rows.
        spec (ImageSpec): the images' space: size, channels and intensities.

    Args:
        manifest: a manifest, or the path of one.
        image_size: pixels of each axis; one number for a square.
        resize: how images are resized: pad (preserves the aspect), crop, stretch or none.
        unit: of values in files that do not state it.
        spec: a known space, for example a generator's; by default it is measured from the headers.
        transform: applied to each image.

    Raises:
        UserError: unusable rows.

    Examples:
        >>> import medloom
        >>> images = medloom.Dataset("train.csv", image_size=[64])
        >>> images[0]["image"].shape, images[0]["text"]
        (torch.Size([1, 64, 64]), 'Normal chest.')
    """

    def __init__(
        self,
        manifest: Manifest | Path | str,
        image_size: Sequence[int] = (64,),
        resize: str = "pad",
        unit: str | None = None,
        spec: ImageSpec | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not isinstance(manifest, Manifest):
            manifest = read_manifest(Path(manifest), need=("path",), need_patients=False)
        self.manifest = manifest
        self._samples = manifest.samples()
        self.spec = spec or measure_spec(self._samples, tuple(image_size), resize, unit, verbose=False)
        self._reader = ConditionReader(self.spec, unit=unit)
        self._transform = transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Item:
        sample = self._samples[index]
        condition = sample.condition
        image = torch.from_numpy(self._reader.model_image(sample.path, self._reader.modality(condition)).array)
        mask = None if condition.mask is None else torch.from_numpy(self._reader.labels(condition, sample.path)).long()
        return Item(
            image=image if self._transform is None else self._transform(image),
            text=condition.text or "",
            modality=condition.modality or "",
            view=condition.view or "",
            patient=sample.patient,
            table=dict(condition.table),
            mask=mask,
        )
