"""Simulated experts: what they see in images of virtual patients, and how raters of different strictness say it.

Nothing of it is learnt. What an image shows is measured (`medloom.phantom.oracle`), and compared with what the prompt
asks for and with what true images of the cohort measure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.seeds import numpy_generator
from medloom.phantom.cohort_spec import CONDITION_LABELS
from medloom.phantom.oracle import Measurement, measure
from medloom.report_text.findings import PRESENT, findings_of

BODY = CONDITION_LABELS["body"]
# Of the vocabulary of reports -> what of a measurement shows it on its side.
SIDED = {"pleural effusion": "effusion_side", "consolidation": "lesion_side", "nodule": "lesion_side"}
# Pixels of an image across which a nodule is more than one or two of them.
NODULE_PIXELS = 64
ENLARGED_HEART, HEART_RATIO = "cardiomegaly", 0.5
# Standard deviations at which a single measurement is as odd as it can be.
ODDEST = 8.0
# Of true images: the fraction whose realism an expert rates highest, and at least as acceptable.
BEST, ACCEPTABLE = 0.9, 0.99


@dataclass(frozen=True)
class Sight:
    """What an expert sees in an image.

    Attributes:
        oddity: how far it is from true images, 1 for a typical one; more is worse.
        match: the fraction of what the prompt states that the image shows, or None where nothing of it is measurable.
    """

    oddity: float
    match: float | None


class Expert:
    """An expert who has seen true images of a cohort.

    Args:
        images: true images in HU, `(rows, columns)` or volumes.
        masks: their condition masks.
    """

    def __init__(self, images: Sequence[NDArray[np.floating]], masks: Sequence[NDArray[np.integer]]) -> None:
        if len(images) < 20:
            raise UserError(f"an expert has to have seen 20 true images at least, not {len(images)}.")
        seen = np.array(
            [_features(image, mask, measure(image, mask)) for image, mask in zip(images, masks, strict=True)]
        )
        self._middle = np.nanmedian(seen, axis=0)
        low, high = np.nanquantile(seen, [0.05, 0.95], axis=0)
        # Of a normal distribution; wide enough for what hardly varies.
        self._spread = np.maximum((high - low) / 3.29, 1e-3 * np.maximum(1.0, np.abs(self._middle)))
        oddities = [self._oddity(row) for row in seen]
        self.best, self.acceptable = (float(np.quantile(oddities, q)) for q in (BEST, ACCEPTABLE))

    def look(self, image: NDArray[np.floating], mask: NDArray[np.integer], text: str) -> Sight:
        """See an image.

        Args:
            image: HU.
            mask: its condition mask.
            text: what it should show.
        """
        found = measure(image, mask)
        return Sight(
            self._oddity(_features(image, mask, found)), _match(found, text, min(image.shape) >= NODULE_PIXELS)
        )

    def _oddity(self, features: NDArray[np.float64]) -> float:
        away = np.nan_to_num((features - self._middle) / self._spread, nan=ODDEST)
        return float(np.sqrt(np.mean(np.clip(away, -ODDEST, ODDEST) ** 2)))

    def realism(self, sight: Sight, strictness: float = 0.0) -> int:
        """Realism from 1 to 3.

        Args:
            sight: of `look`.
            strictness: of the rater, 0 for none; 0.1 takes a tenth off what is accepted.
        """
        oddity = sight.oddity * math.exp(strictness)
        if oddity <= self.best:
            return 3
        # Between a true image and one that is clearly none: half as odd again as the oddest true ones.
        return 2 if oddity <= 1.5 * self.acceptable else 1


@dataclass(frozen=True)
class Rater:
    """A rater of a panel.

    Attributes:
        name: of the rater.
        strictness: how much less than others the rater accepts.
        noise: standard deviation of what differs from image to image.
        seed: of the noise.
    """

    name: str
    strictness: float
    noise: float
    seed: int

    def rate(self, expert: Expert, sight: Sight, item: str) -> tuple[int, int]:
        """Realism and match, 1 to 3 each; the same of the same item."""
        draw = numpy_generator("rater", self.seed, self.name, item)
        realism = expert.realism(sight, self.strictness + self.noise * float(draw.standard_normal()))
        match = 1.0 if sight.match is None else sight.match
        seen = match + self.noise * float(draw.standard_normal()) - self.strictness / 2
        return realism, 3 if seen > 0.75 else 2 if seen > 0.4 else 1


def panel(count: int, seed: int, bias: float = 0.15, noise: float = 0.15) -> list[Rater]:
    """Raters of different strictness."""
    draw = numpy_generator("panel", seed)
    return [Rater(f"rater {k + 1}", bias * float(draw.standard_normal()), noise, seed) for k in range(count)]


def grey(image: Image) -> NDArray[np.float32]:
    """The one channel of an image in HU.

    Raises:
        UserError: another unit.
    """
    if image.unit != "HU" or len(image.pixels) != 1:
        raise UserError(f"simulated experts read CT of a virtual cohort in HU, not {image.unit}.")
    channel: NDArray[np.float32] = image.pixels[0]
    return channel


def _features(hu: NDArray[np.floating], mask: NDArray[np.integer], found: Measurement) -> NDArray[np.float64]:
    """Measurements in which a generated image may differ from true ones whatever it shows."""
    inside, tissue = mask > 0, mask == BODY
    rough = ndimage.laplace(hu.astype(np.float64))
    outside = hu[~inside]
    body = ndimage.binary_erosion(tissue)
    body = body if body.any() else tissue
    air = ndimage.binary_erosion(~inside)
    # In the logarithm: noise of half and of twice the strength are equally odd.
    return np.array(
        [
            found.chest_width,
            found.bone_density,
            float(np.median(hu[tissue])) if tissue.any() else math.nan,
            math.log(float(np.std(rough[body])) + 1.0),
            math.log(float(np.std(rough[inside])) + 1.0),
            math.log(float(np.std(rough[air])) + 1.0) if air.any() else math.nan,
            float(outside.mean()) if outside.size else math.nan,
            float(hu[inside].min()),
            float(hu[inside].max()),
        ]
    )


def _match(found: Measurement, text: str, nodules: bool) -> float | None:
    """How many of the findings that can be measured are as the text says."""
    stated = [mention for mention in findings_of(text) if mention.status == PRESENT]
    wanted = {"effusion_side": "none", "lesion_side": "none"}
    for mention in stated:
        if (where := SIDED.get(mention.finding)) is not None:
            wanted[where] = mention.side or "any"
    names = {mention.finding for mention in stated}
    known = (names & {*SIDED, ENLARGED_HEART}) - (set() if nodules else {"nodule"})
    if names and not known:
        return None
    right = [_agrees(getattr(found, where), side) for where, side in wanted.items()]
    if ENLARGED_HEART in names or not names:
        right.append(float((found.heart_ratio > HEART_RATIO) == (ENLARGED_HEART in names)))
    return float(np.mean(right))


def _agrees(seen: str, wanted: str) -> float:
    """1 for the right side, a half for the other one, 0 for a finding that is missed or made up."""
    if wanted == "any":
        return float(seen != "none")
    if seen == wanted:
        return 1.0
    return 0.5 if "none" not in (seen, wanted) else 0.0
