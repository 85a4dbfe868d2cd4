"""The internal report: pairs of a synthetic and a training image, side by side. It shows patients, and says so."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medloom.core.files import write_text
from medloom.core.plots import grid
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import ImageSource
from medloom.evaluation.images.privacy import Copy
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.pages import embedded, page

INTERNAL = "report-internal.html"
TEMPLATE = "internal.html"
SHOWN, PIXELS = 60, 128


def write_internal(
    out: Path, copies: Sequence[Copy], sets: tuple[ImageSet, ImageSet], spec: ImageSpec, unit: str | None
) -> None:
    """Write report-internal.html: of each embedding the pairs of highest cosine.

    Args:
        out: the folder.
        copies: the pairs.
        sets: the synthetic and the training images.
        spec: the space in which they are read.
        unit: what the values of files are that do not say so.
    """
    if spec.spatial_dims == 2:
        spec = replace(spec, size=(PIXELS, PIXELS), resize="pad")
    samples: dict[Path, Sample] = {sample.path: sample for members in sets for sample in members.samples}
    parts = []
    for embedding in dict.fromkeys(copy.embedding for copy in copies):
        own = sorted((copy for copy in copies if copy.embedding == embedding), key=lambda copy: -copy.cosine)
        shown = [(copy, embedded(_pair(copy, samples, spec, unit))) for copy in own[:SHOWN]]
        parts.append({"embedding": embedding, "count": len(own), "pairs": shown})
    write_text(out / INTERNAL, page(TEMPLATE, parts=parts))


def _pair(copy: Copy, samples: dict[Path, Sample], spec: ImageSpec, unit: str | None) -> bytes:
    """The synthetic image and the training image beside it, as PNG."""
    source = ImageSource([samples[copy.synthetic], samples[copy.train]], spec, unit, {})
    stream = io.BytesIO()
    Image.fromarray(grid([np.asarray(image) for image in source.images([0, 1])], 2)).save(stream, "PNG")
    return stream.getvalue()
