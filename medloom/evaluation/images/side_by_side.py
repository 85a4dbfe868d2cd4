"""Real images beside synthetic ones: at random in each class, and the synthetic ones that are least like real ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.files import write_text
from medloom.core.seeds import numpy_generator
from medloom.evaluation.images.page import IMAGES_PER_STRIP, largest, least_like_real, strip_of
from medloom.evaluation.images.section import Inputs, classes
from medloom.evaluation.report.report import embedded, page

SIDE_BY_SIDE = "side-by-side-internal.html"


def write_side_by_side(path: Path, inputs: Inputs) -> None:
    """Write the page. It shows patients, and says so.

    Raises:
        UserError: an image that cannot be read.
    """
    data, parts = inputs.data, list[tuple[str, list[str]]]()
    ours, theirs = (np.array(classes(members)) for members in (data.synthetic, data.real))
    for name in largest(ours):
        rows = [_some(own == name, inputs.seed) for own in (ours, theirs)]
        counts = f"{int((ours == name).sum())} synthetic and {int((theirs == name).sum())} held-out real images"
        parts.append((f"{name}: {counts}, some at random", _rows(inputs, rows[0], rows[1])))
    for extractor in inputs.used:
        far, nearest = least_like_real(inputs, extractor)
        heading = (
            f"The {len(far)} synthetic images least like any held-out real image by {extractor}, above the nearest one"
        )
        parts.append((heading, _rows(inputs, far, nearest)))
    write_text(path, page("side_by_side.html", parts=parts))


def _some(own: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Some rows at random."""
    return numpy_generator("side by side", seed).permutation(np.flatnonzero(own))[:IMAGES_PER_STRIP]


def _rows(inputs: Inputs, synthetic: NDArray[np.intp], real: NDArray[np.intp]) -> list[str]:
    """Two rows of pictures, the synthetic ones first; one if there are no real ones."""
    data, unit = inputs.data, inputs.cache.unit
    rows = [strip_of(data.synthetic.rows(synthetic), data.spec, unit)]
    if len(real):
        rows.append(strip_of(data.real.rows(real), data.spec, unit, synthetic=False))
    return [embedded(row) for row in rows]
