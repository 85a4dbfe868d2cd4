"""Padding: how much of the model's frame the content of an image fills, and how much it fills where nothing says it.

A padded frame is a patch that reaches beyond its image: its position says where content ends and padding begins.
Content lies about the centre of its frame, so that its extent, the pixels that it fills along each axis, says it all.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.image import FloatArray
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.data.patches import Crop, position_of
from medloom.data.placement import OUTSIDE, plan

Extent = tuple[int, ...]

# Extents that are kept of each modality; further ones are rounded to these.
MOST_EXTENTS = 16


def extent_of(size: tuple[int, ...], spacing: Sequence[float] | None, spec: ImageSpec) -> Extent:
    """Pixels of the spec's frame that an image of `size` pixels, at `spacing` mm, fills along each axis.

    Raises:
        UserError: see `plan`.
    """
    return tuple(part.stop - part.start for part in plan(size, spacing, spec).box(spec.size))


def frame_position(extent: Sequence[int], frame: Sequence[int], start: Sequence[int] | None = None) -> NDArray[Any]:
    """Positions of a frame's edges in its content, float32 `(axes, 2)`: content spans [-1, 1], padding lies beyond.

    Args:
        extent: pixels that the content fills along each axis.
        frame: pixels of the frame.
        start: index of the shifted frame's first pixel in the frame that was shifted; None where it was not.
    """
    moved = start if start is not None else (0,) * len(frame)
    begins = [first - begin for first, begin in zip(moved, _begins(extent, frame), strict=True)]
    return position_of(begins, frame, extent)


def bordered(array: FloatArray, extent: Sequence[int]) -> FloatArray:
    """An array `(C, *frame)` with its values where its content is, and the lowest one beyond it, as `place` has it."""
    begins = _begins(extent, array.shape[1:])
    inside = (slice(None), *(slice(begin, begin + own) for begin, own in zip(begins, extent, strict=True)))
    made = np.full_like(array, OUTSIDE)
    made[inside] = array[inside]
    return made


def _begins(extent: Sequence[int], frame: Sequence[int]) -> list[int]:
    """Index of the content's first pixel along each axis of the frame, as `plan` places it."""
    return [(length - own) // 2 for length, own in zip(frame, extent, strict=True)]


@dataclass(frozen=True, eq=False)
class Contents:
    """The extents of some rows' images.

    Attributes:
        frame: pixels of each axis of the frame.
        extents: int64 `(rows, axes)`.
    """

    frame: tuple[int, ...]
    extents: NDArray[np.int64]

    def position(self, row: int, crop: Crop | None = None) -> NDArray[Any]:
        """See `frame_position`; a crop says how the row's image is shifted."""
        return frame_position(self.extents[row].tolist(), self.frame, None if crop is None else crop.start)


@dataclass(frozen=True)
class TrainingExtents:
    """What part of the frame the training images fill: of each modality a few extents, rounded, with numbers of images.

    Attributes:
        frame: pixels of each axis of the frame.
        counts: modality -> extent -> images.
    """

    frame: tuple[int, ...]
    counts: Mapping[str, Mapping[Extent, int]]

    @classmethod
    def of(cls, frame: tuple[int, ...], images: Iterable[tuple[str, Extent]]) -> "TrainingExtents":
        """Of images, each with its modality and extent."""
        found: dict[str, Counter[Extent]] = {}
        for modality, extent in images:
            found.setdefault(modality, Counter())[extent] += 1
        return cls(frame, {modality: _rounded(counts, frame) for modality, counts in sorted(found.items())})

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    @property
    def padded(self) -> int:
        """How many of them are padded."""
        return sum(count for counts in self.counts.values() for extent, count in counts.items() if extent != self.frame)

    @property
    def differ(self) -> bool:
        """Whether images are padded in more than one way."""
        return len({extent for counts in self.counts.values() for extent in counts}) > 1

    def draw(self, modality: str, seed: int) -> Extent:
        """The extent of a generated image, a function of its seed: as often each as in training.

        Of a modality that training did not have, the whole frame.
        """
        counts = self.counts.get(modality)
        if not counts:
            return self.frame
        ends = np.cumsum(list(counts.values()))
        drawn = numpy_generator("extent", seed).random() * ends[-1]
        return list(counts)[int(np.searchsorted(ends, drawn, side="right"))]

    def after(self, earlier: "TrainingExtents | None") -> "TrainingExtents":
        """Those of a run that continues another one, in the same frame."""
        if earlier is None or earlier.frame != self.frame:
            return self
        found = {name: Counter(own) for name, own in self.counts.items()}
        for name, counts in earlier.counts.items():
            found.setdefault(name, Counter()).update(counts)
        return TrainingExtents(self.frame, {name: _rounded(own, self.frame) for name, own in sorted(found.items())})

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            modality: [{"extent": list(extent), "images": count} for extent, count in counts.items()]
            for modality, counts in self.counts.items()
        }

    @classmethod
    def from_dict(cls, frame: tuple[int, ...], values: Mapping[str, Any]) -> "TrainingExtents":
        """From the values of `to_dict`."""
        return cls(
            frame,
            {
                modality: {tuple(entry["extent"]): entry["images"] for entry in entries}
                for modality, entries in values.items()
            },
        )


def _rounded(counts: Mapping[Extent, int], frame: tuple[int, ...]) -> dict[Extent, int]:
    """At most `MOST_EXTENTS` of the extents, sorted; each of the others counts as a near one that is more frequent.

    The whole frame stays apart: an image without padding is none with a little.
    """
    step = 1
    while True:
        groups: dict[tuple[bool, Extent], list[Extent]] = {}
        for extent in sorted(counts):
            key = extent == frame, tuple(pixels // step for pixels in extent)
            groups.setdefault(key, []).append(extent)
        if len(groups) <= MOST_EXTENTS:
            break
        step *= 2
    kept = {max(group, key=lambda each: counts[each]): sum(counts[each] for each in group) for group in groups.values()}
    return dict(sorted(kept.items()))
