"""Images of a result, with what the result knows of them where their files do not say it."""

import math
from dataclasses import replace

import numpy as np

from medloom.core.image import Image, full_scale_of
from medloom.core.spec import GREY
from medloom.data.images import states_unit
from medloom.studio.results.folder import Result, ResultImage
from medloom.studio.results.pictures import open_image


def opened(result: Result, own: ResultImage) -> Image:
    """An image of a result.

    Raises:
        UserError: it is gone or damaged.
    """
    return stated(result, own, open_image(own.path))


def stated(result: Result, own: ResultImage, image: Image) -> Image:
    """An image with what the result knows of it where the file does not say it: its unit, and whether it has a place.

    NIfTI needs an affine, and of a volume whose geometry is not known it has 1 mm at the origin, which nobody measured.
    """
    if states_unit(own.path):
        return image
    unit, spec = result.unit_of(own) or image.unit, result.spec()
    unmeasured = image.affine is not None and np.array_equal(image.affine, np.eye(4))
    if unmeasured and (spec is None or spec.spacing is None):
        image = replace(image, affine=None, spacing=None)
    return replace(image, unit=unit, full_scale=full_scale_of(8) if unit == GREY else math.nan)
