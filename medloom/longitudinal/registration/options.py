"""What may be chosen of registration, and the transforms by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from medloom.core.errors import UserError
from medloom.core.lookup import look_up

OFF = "off"


class Family(NamedTuple):
    """One family of transforms.

    Attributes:
        make: number of axes to the SimpleITK transforms that are optimised one after the other, each from where the
            one before ended.
        scales: whether the family changes sizes.
    """

    make: Callable[[int], list[Any]]
    scales: bool


def _none(dims: int) -> list[Any]:
    return []


def _rigid(dims: int) -> list[Any]:
    import SimpleITK

    return [SimpleITK.Euler2DTransform() if dims == 2 else SimpleITK.VersorRigid3DTransform()]


def _similarity(dims: int) -> list[Any]:
    import SimpleITK

    return [SimpleITK.Similarity2DTransform() if dims == 2 else SimpleITK.Similarity3DTransform()]


def _affine(dims: int) -> list[Any]:
    import SimpleITK

    # Shears are many and small: found from the best similarity they do not lead astray.
    return [*_similarity(dims), SimpleITK.AffineTransform(dims)]


TRANSFORMS: dict[str, Family] = {
    OFF: Family(_none, False),
    "rigid": Family(_rigid, False),
    "similarity": Family(_similarity, True),
    "affine": Family(_affine, True),
}


@dataclass(frozen=True)
class RegistrationOptions:
    """How an earlier image is brought onto a later one, and when that is held to have worked.

    Attributes:
        transform: off (onto the grid of the later image and no more), rigid, similarity or affine.
        min_scale: smallest allowed factor by which the earlier image grows, in any direction; beyond is a failure.
        max_scale: largest allowed factor.
        max_rotation: degrees that it may turn; beyond is a failure.
        min_overlap: share of the smaller of the two images that they must have in common.
        min_score: normalised cross-correlation that a result must reach, -1 to 1.
        size: pixels of the longest axis at which the search works, at most; larger images are reduced for it.
        levels: factors by which the images are reduced further, coarse to fine.
        sampling: share of the pixels that the metric looks at, in (0, 1].
        bins: of the joint histogram.
        iterations: steps a level, at most.
        seed: of the choice of pixels.
    """

    transform: str = "similarity"
    min_scale: float = 0.7
    max_scale: float = 1.4
    max_rotation: float = 20.0
    min_overlap: float = 0.7
    min_score: float = 0.6
    size: int = 256
    levels: tuple[int, ...] = (4, 2)
    sampling: float = 0.5
    bins: int = 32
    iterations: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        look_up(TRANSFORMS, self.transform, "transform of registration")
        allowed = {
            "min_scale, max_scale": (0 < self.min_scale <= 1 <= self.max_scale, "0 < min_scale <= 1 <= max_scale"),
            "max_rotation": (0 <= self.max_rotation <= 180, "0 to 180 degrees"),
            "min_overlap": (0 < self.min_overlap <= 1, "above 0 and at most 1"),
            "min_score": (-1 <= self.min_score <= 1, "-1 to 1"),
            "size": (self.size >= 16, "16 or more"),
            "levels": (bool(self.levels) and min(self.levels) >= 1, "one or more whole numbers from 1"),
            "sampling": (0 < self.sampling <= 1, "above 0 and at most 1"),
            "bins": (self.bins >= 8, "8 or more"),
            "iterations": (self.iterations >= 1, "1 or more"),
            "seed": (0 <= self.seed < 2**32 - 1, "0 to 4294967294"),
        }
        for name, (holds, words) in allowed.items():
            if not holds:
                given = ", ".join(f"{getattr(self, part)}" for part in name.split(", "))
                raise UserError(f"registration option {name} = {given} is out of range; allowed: {words}.")

    @property
    def family(self) -> Family:
        """The family of transforms."""
        return TRANSFORMS[self.transform]
