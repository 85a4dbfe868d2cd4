"""Copies between sets of images: what an image of one set was most likely made from in another, and the evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError, first_line
from medloom.core.files import atomic_file, hash_json
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.evaluation.copies.alignments import in_words
from medloom.evaluation.copies.evidence import LEAST, LISTED_ABOVE, Unrelated, measure_unrelated
from medloom.evaluation.copies.matches import CANDIDATES, FINALISTS, Matches, match
from medloom.evaluation.copies.planted import BLENDED, EDITS, edited
from medloom.evaluation.copies.search import References, same
from medloom.evaluation.copies.spectra import SIZE
from medloom.evaluation.images.copy_pictures import Pictures, halved, pictures
from medloom.evaluation.images.sets import ImageSet

# Changed when the same pictures would give other matches.
VERSION = 1
# Real images that show how unrelated ones agree, and training images that are edited to see which edits are found.
MOST_UNRELATED, PLANTED = 1000, 40


@dataclass(frozen=True, eq=False)
class Copies:
    """Of each image of a set, the image of another set that it is most likely a copy of.

    Attributes:
        rows: of the other set, `(n,)`.
        scores: evidence, in standard deviations of unrelated images, `(n,)`.
        cosines: of the fine structure of the two after alignment, 0 to 1, `(n,)`.
        how: what was done to the original, in words.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    cosines: NDArray[np.float64]
    how: tuple[str, ...]

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Which images are listed as copies: `(n,)`."""
        return self.scores > LISTED_ABOVE


class CopySearch:
    """Looks for copies between sets of images, and keeps what it found on disk.

    Args:
        spec: the space of the evaluation.
        unit: of files that do not state theirs.
        cache: folder of what was found.
        seed: of the real images that show how unrelated ones agree.
    """

    # Pixels a side of pictures that are edited; half of them are compared.
    EDITED: ClassVar[int] = 2 * SIZE

    def __init__(self, spec: ImageSpec, unit: str | None, cache: Path, seed: int) -> None:
        self.spec, self.unit, self.cache, self.seed = spec, unit, cache, seed
        self._pictures: dict[tuple[str, ...], Pictures] = {}
        self._references: dict[tuple[str, ...], list[References]] = {}

    def among(self, members: ImageSet, others: ImageSet, unrelated: Sequence[Unrelated]) -> Copies:
        """Copies of images of `others` among `members`; of a set with itself, of an image and every other one.

        Raises:
            UserError: an image that cannot be read.
        """
        apart = np.eye(len(members), dtype=bool) if members is others else None
        return _together(self._matches(members, others, apart), unrelated)

    def unrelated(self, real: ImageSet) -> list[Unrelated]:
        """How real images of different patients agree, for each view.

        Raises:
            UserError: too few images or patients; an image that cannot be read.
        """
        order = np.sort(numpy_generator("unrelated", self.seed).permutation(len(real))[:MOST_UNRELATED])
        some = real.rows(order)
        alone = np.array([np.all(np.asarray(real.units) == unit) for unit in dict.fromkeys(some.units)])
        if len(some) < LEAST or alone.any():
            raise UserError(f"copies are distinguished from chance by {LEAST} or more real images of several patients.")
        return [measure_unrelated(view) for view in self._matches(some, real, same(some.units, real.units))]

    def planted(
        self, real: ImageSet, unrelated: Sequence[Unrelated], count: int = PLANTED
    ) -> Mapping[str, NDArray[np.bool_]]:
        """Which of some real images are listed with their original after each edit: edit -> `(n,)`.

        Args:
            real: the images; some of them are edited, and looked for among all.
            unrelated: see `unrelated`.
            count: of images that are edited.

        Raises:
            UserError: an image that cannot be read.
        """
        order = np.sort(numpy_generator("planted", self.seed).permutation(len(real))[:count])
        originals = pictures(real.rows(order), self.spec, self.unit, self.EDITED)
        found = {}
        for edit in EDITS:
            views = [halved(edited(originals[:, view], edit, self.seed)) for view in range(originals.shape[1])]
            matches = [
                match(own, known, what=f"real images, {edit}")
                for own, known in zip(views, self._known(real), strict=True)
            ]
            copies = _together(matches, unrelated)
            originals_of = [order, np.roll(order, -1)] if edit == BLENDED else [order]
            found[edit] = copies.listed & np.any([copies.rows == rows for rows in originals_of], axis=0)
        return found

    def _matches(self, members: ImageSet, others: ImageSet, apart: NDArray[np.bool_] | None) -> list[Matches]:
        """The matches of each view, from disk where they are known."""
        split = None if apart is None else hash_json([list(members.units), list(others.units), members is others])
        known = [VERSION, CANDIDATES, FINALISTS, self.spec.fingerprint(), self.unit, split]
        key = hash_json([*known, *(list(each.hashes) for each in (members, others))])
        path = self.cache / "matches" / f"{key}.npz"
        if path.is_file():
            return _read(path)
        found = [
            match(self._seen(members)[:, view], references, apart, f"{members.name} images")
            for view, references in enumerate(self._known(others))
        ]
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            arrays = {
                f"{view}_{field.name}": getattr(own, field.name)
                for view, own in enumerate(found)
                for field in fields(Matches)
            }
            np.savez(stream, **arrays)
        return found

    def _seen(self, members: ImageSet) -> Pictures:
        if members.hashes not in self._pictures:
            self._pictures[members.hashes] = pictures(members, self.spec, self.unit)
        return self._pictures[members.hashes]

    def _known(self, members: ImageSet) -> list[References]:
        if members.hashes not in self._references:
            seen = self._seen(members)
            self._references[members.hashes] = [References(seen[:, view].copy()) for view in range(seen.shape[1])]
        return self._references[members.hashes]


def _read(path: Path) -> list[Matches]:
    """The matches of each view that a file holds.

    Raises:
        UserError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as table:
            return [
                Matches(**{field.name: table[f"{view}_{field.name}"] for field in fields(Matches)})
                for view in range(len(table.files) // len(fields(Matches)))
            ]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} is not a file of matches ({first_line(error)}); remove it.") from error


def _together(views: Sequence[Matches], unrelated: Sequence[Unrelated]) -> Copies:
    """The matches of all views as one. Of volumes, two of three views have to name the same original."""
    scores = np.stack([own.scores(matches) for own, matches in zip(unrelated, views, strict=True)])
    rows = np.stack([matches.rows for matches in views])
    best = scores.argmax(axis=0)
    if len(views) > 1:
        # The score of a pair of views that agree is the lower one; without such a pair it is the lowest of all.
        agreeing = np.full((len(views), len(views), rows.shape[1]), -np.inf)
        for one in range(len(views)):
            for other in range(one):
                lower = np.minimum(scores[one], scores[other])
                agreeing[one, other] = np.where(rows[one] == rows[other], lower, -np.inf)
        flat = agreeing.reshape(-1, rows.shape[1])
        pair = flat.argmax(axis=0) // len(views)
        agree = np.isfinite(flat.max(axis=0))
        best = np.where(agree, pair, scores.argmin(axis=0))
        found = np.where(agree, flat.max(axis=0), scores.min(axis=0))
    else:
        found = scores[0]
    place = np.arange(rows.shape[1])
    cosines = np.stack([matches.cosines for matches in views])[best, place]
    how = tuple(in_words(views[view].maps[row], bool(views[view].inverted[row])) for row, view in enumerate(best))
    return Copies(rows[best, place], found, cosines, how)
