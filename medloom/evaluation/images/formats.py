"""How the images of each set are stored: a set on another scale or of another size looks bad whatever it shows."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.core.spec import COLOUR, GREY, ImageSpec
from medloom.data.images import read_header, read_image
from medloom.data.transforms import is_grey
from medloom.data.units import unit_for
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.sets import ImageSet

# Files of a set that are looked at.
MOST = 100
ENDS = (1, 99)
# Ratio of the ranges of two sets beyond which it is said, and of their shorter sides.
RANGE_RATIO, SIZE_RATIO = 1.5, 1.25


@dataclass(frozen=True)
class Formats:
    """How a set is stored.

    Attributes:
        sizes: how often each size occurs.
        stored: how often each kind of file occurs, in words.
        low: median over images of their 1st percentile, in percent of the full range or in the unit of the values.
        high: the same of the 99th.
        unit: of the two.
    """

    sizes: Counter[tuple[int, ...]]
    stored: Counter[str]
    low: float
    high: float
    unit: str

    def row(self) -> Mapping[str, object]:
        """For the report's table of sets."""
        more = f" and {len(self.sizes) - 1} more" if len(self.sizes) > 1 else ""
        return {
            "largest": " x ".join(map(str, max(self.sizes, key=math.prod))),
            "pixels": " x ".join(map(str, self.sizes.most_common(1)[0][0])) + more,
            "stored": ", ".join(name for name, _ in self.stored.most_common(3)),
            "levels": f"{self.low:.3g} to {self.high:.3g} {self.unit}",
        }


def formats_of(members: ImageSet, unit: str | None, spec: ImageSpec) -> Formats:
    """How up to 100 images of a set are stored.

    Args:
        members: the set.
        unit: of files that do not state theirs.
        spec: of the held-out real images.

    Raises:
        UserError: an image that cannot be read, or that is a volume or in colour where real ones are not, or the
            reverse; names the file.
    """
    rows = np.sort(numpy_generator("formats").permutation(len(members))[:MOST])
    sizes, stored, ends, units = Counter[tuple[int, ...]](), Counter[str](), [], Counter[str]()
    with progress(f"looking at files of {members.name}", len(rows), "images", 0) as advance:
        for row in rows:
            path = members.samples[row].path
            own = unit_for(unit, members.samples[row].condition.modality, path)
            header, image = read_header(path, own), read_image(path, unit=own)
            _refuse_another_kind(path, members.name, image, spec)
            sizes[header.size] += 1
            stored[f"{header.kind}, {header.bits} bit, {'colour' if header.channels == 3 else 'grey'}"] += 1
            values = image.pixels if image.padding is None else image.pixels[:, ~image.padding]
            is_level = image.unit in (GREY, COLOUR)
            scale = 100 / image.full_scale if is_level else 1.0
            ends.append(np.percentile(values, ENDS) * scale if values.size else np.zeros(2))
            units["%" if is_level else image.unit] += 1
            advance()
    low, high = np.median(ends, axis=0)
    return Formats(sizes, stored, float(low), float(high), units.most_common(1)[0][0])


def _refuse_another_kind(path: Path, name: str, image: Image, spec: ImageSpec) -> None:
    """Known before anything is trained."""
    kinds = {2: "an image of two axes", 3: "a volume"}
    axes = image.pixels.ndim - 1
    if axes != spec.spatial_dims:
        raise UserError(
            f"{path} of the {name} images is {kinds[axes]}, and the held-out real ones are"
            f" {'volumes' if spec.spatial_dims == 3 else 'images of two axes'}; give images of one kind."
        )
    if len(image.pixels) > spec.channels and not is_grey(image):
        raise UserError(
            f"{path} of the {name} images is in colour, and the held-out real ones are grey; give grey images, or"
            " compare modalities in colour and in grey by themselves."
        )


def with_formats(data: Comparison, unit: str | None) -> Comparison:
    """The comparison whose table says how each set is stored, with a note where the sets differ.

    Raises:
        UserError: see `formats_of`.
    """
    given = (data.synthetic, data.real, data.train or data.fit, data.control)
    sets = [known for known in given if known is not None and len(known)]
    found = {members.name: formats_of(members, unit, data.spec) for members in sets}
    blank = {"pixels": "", "stored": "", "levels": ""}
    table = tuple(
        {**entry, **(found[str(entry["name"])].row() if entry["name"] in found else blank)} for entry in data.table
    )
    ours, theirs = found[data.synthetic.name], found[data.real.name]
    return replace(data, table=table, notes=(*data.notes, *differences(ours, theirs)))


def differences(ours: Formats, theirs: Formats) -> list[str]:
    """What is said of two sets that are stored differently."""
    notes = []
    sides = [min(known.sizes.most_common(1)[0][0]) for known in (ours, theirs)]
    if max(sides) > SIZE_RATIO * min(sides):
        notes.append(
            f"Synthetic images have {ours.row()['pixels']} pixels and held-out real ones {theirs.row()['pixels']}: the"
            " smaller ones have less detail, whatever they show."
        )
    if ours.unit != theirs.unit:
        return [*notes, f"Synthetic images are in {ours.unit} and held-out real ones in {theirs.unit}."]
    ranges = [max(known.high - known.low, 1e-6) for known in (ours, theirs)]
    if max(ranges) > RANGE_RATIO * min(ranges):
        notes.append(
            f"Most values of synthetic images lie between {ours.row()['levels']} and those of held-out real ones"
            f" between {theirs.row()['levels']}: one of the sets may be stored on another scale."
        )
    return notes
