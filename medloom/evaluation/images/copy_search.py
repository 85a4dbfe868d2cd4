"""Copies between sets of images: what an image of one set was most likely made from in another, and the evidence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_json, hash_text
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.evaluation.copies.alignments import in_words
from medloom.evaluation.copies.evidence import LEAST, LISTED_ABOVE, Unrelated, measure_unrelated
from medloom.evaluation.copies.matches import CANDIDATES, FINALISTS, Matches, match
from medloom.evaluation.copies.parts import PARTS, area, match_parts
from medloom.evaluation.copies.planted import EDITS, OF_TWO, edited
from medloom.evaluation.copies.search import Apart, References
from medloom.evaluation.copies.spectra import SIZE
from medloom.evaluation.images.copy_pictures import Pictures, halved, pictures
from medloom.evaluation.images.kept_copies import KeptMatches, Planted, kept_planted
from medloom.evaluation.images.sets import ImageSet

# Changed when the same pictures would give other matches.
VERSION = 3
# Real images that show how unrelated ones agree.
MOST_UNRELATED = 1000
# Images whose matches are written together.
TOGETHER = 1000
# A part with a higher score is listed as copied. Parts have less structure than wholes, and the best of eight counts.
PART_ABOVE = 9.0


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
        edited_images: number of real images that are edited to see which edited copies are found.
    """

    # Pixels a side of pictures that are edited; half of them are compared.
    EDITED: ClassVar[int] = 2 * SIZE

    def __init__(self, spec: ImageSpec, unit: str | None, cache: Path, seed: int, edited_images: int) -> None:
        self.spec, self.unit, self.cache, self.seed = spec, unit, cache, seed
        self.edited_images = edited_images
        # By the hash of the file: a smaller set has the pictures of the whole one.
        self._pictures: dict[str, Pictures] = {}
        self._references: dict[tuple[str, ...], list[References]] = {}

    def among(
        self,
        members: ImageSet,
        others: ImageSet,
        unrelated: Sequence[Unrelated],
        rows: NDArray[np.intp] | None = None,
    ) -> Copies:
        """Copies of images of `others` among `members`; of a set with itself, of an image and every other one.

        Args:
            members: the images that are looked at.
            others: where their originals are looked for.
            unrelated: see `unrelated`.
            rows: of members that are looked at; default: all.

        Raises:
            UserError: an image that cannot be read.
        """
        names = [str(row) for row in range(len(members))]
        apart = (names, names) if members is others else None
        if rows is not None:
            members = members.rows(rows)
            apart = None if apart is None else ([names[row] for row in rows], names)
        what = f"looking for copies of {others.name} images among {members.name} images"
        return _together(*self._views_and_parts(members, others, what, apart), unrelated)

    def unrelated(self, real: ImageSet) -> list[Unrelated]:
        """How real images of different patients agree: for each view, then for each of PARTS of images with one view.

        Raises:
            UserError: too few images or patients; an image that cannot be read.
        """
        order = np.sort(numpy_generator("unrelated", self.seed).permutation(len(real))[:MOST_UNRELATED])
        some = real.rows(order)
        alone = np.array([np.all(np.asarray(real.units) == unit) for unit in dict.fromkeys(some.units)])
        if len(some) < LEAST or alone.any():
            raise UserError(f"copies are distinguished from chance by {LEAST} or more real images of several patients.")
        what, apart = f"comparing {real.name} images of different patients", (some.units, real.units)
        views, parts = self._views_and_parts(some, real, what, apart)
        return [measure_unrelated(matches) for matches in (*views, *parts)]

    def planted(self, real: ImageSet, unrelated: Sequence[Unrelated]) -> Planted:
        """Which of some real images are listed with their original after each edit: edit -> `(n,)`.

        It is kept on disk: another search in the same images with the same seed reads it.

        Args:
            real: the images; some of them are edited, and looked for among all.
            unrelated: see `unrelated`.

        Raises:
            UserError: an image that cannot be read; a damaged file of what was found before.
        """
        known = [VERSION, CANDIDATES, FINALISTS, self.spec.fingerprint(), self.unit, self.seed, self.edited_images]
        known += [list(EDITS), list(real.hashes), list(real.groups), LISTED_ABOVE, PART_ABOVE]
        known += [asdict(view) for view in unrelated]
        path = self.cache / "planted" / f"{hash_json(known)}.json"
        return kept_planted(
            path, list(EDITS), min(self.edited_images, len(real)), lambda: self._planted(real, unrelated)
        )

    def _planted(self, real: ImageSet, unrelated: Sequence[Unrelated]) -> Planted:
        """`planted`, computed."""
        order = np.sort(numpy_generator("planted", self.seed).permutation(len(real))[: self.edited_images])
        originals = pictures(real.rows(order), self.spec, self.unit, self.EDITED)
        known = self._known(real)
        # A training image may be in the set twice, under two names.
        right = np.all([[view.alike(row).numpy() for row in order.tolist()] for view in known], axis=0)
        found = {}
        with progress("looking for edited copies", len(EDITS) * len(order) * len(known), "pictures") as advance:
            for edit in EDITS:
                views = [halved(edited(originals[:, view], edit, self.seed)) for view in range(originals.shape[1])]
                matches = [match(own, others, advance=advance) for own, others in zip(views, known, strict=True)]
                parts = match_parts(views[0], known[0]) if len(views) == 1 else []
                copies = _together(matches, parts, unrelated)
                is_right = right[np.arange(len(order)), copies.rows]
                if edit in OF_TWO:
                    is_right |= np.roll(right, -1, axis=0)[np.arange(len(order)), copies.rows]
                found[edit] = copies.listed & is_right
        return found

    def _views_and_parts(
        self, members: ImageSet, others: ImageSet, what: str, apart: tuple[Sequence[str], Sequence[str]] | None
    ) -> tuple[list[Matches], list[Matches]]:
        """The matches of each view, and of each part of images with one view; see `_matches`."""
        views = self._matches(members, others, what, apart)
        if len(views) > 1:
            return views, []
        return views, self._matches(members, others, f"{what}, by parts", apart, of_parts=True)

    def _matches(
        self,
        members: ImageSet,
        others: ImageSet,
        what: str,
        apart: tuple[Sequence[str], Sequence[str]] | None,
        of_parts: bool = False,
    ) -> list[Matches]:
        """The matches of each view or part, from disk as far as they are known.

        Args:
            members: the queries.
            others: the references.
            what: is done, for the progress.
            apart: names of members and of others; those of one name are not compared.
            of_parts: whether PARTS are compared, of images with one view.
        """
        names = [""] * len(members) if apart is None else apart[0]
        queries = [hash_text(f"{name} {own}") for name, own in zip(names, members.hashes, strict=True)]
        against = None if apart is None else list(apart[1])
        known = [VERSION, CANDIDATES, FINALISTS, self.spec.fingerprint(), self.unit, against, list(others.hashes)]
        known += [list(PARTS)] if of_parts else []
        kept = KeptMatches(self.cache / "matches" / hash_json(known))
        lacking = kept.lacking(queries)
        if len(lacking):
            references, pictured = self._known(others), self._seen(members.rows(lacking))
            codes = None if apart is None else Apart.named(*apart)
            views = len(references)
            total, done = views * len(members), views * (len(members) - len(lacking))
            with progress(what, total, "pictures", done) as advance:
                for start in range(0, len(lacking), TOGETHER):
                    part = slice(start, start + TOGETHER)
                    pictures_of = np.stack(pictured[part])
                    own = codes.of(lacking[part]) if codes else None
                    if of_parts:
                        found = match_parts(pictures_of[:, 0], references[0], own, advance)
                    else:
                        found = [match(pictures_of[:, view], references[view], own, advance) for view in range(views)]
                    kept.keep([queries[row] for row in lacking[part]], found)
        return kept.of(queries)

    def _seen(self, members: ImageSet) -> list[Pictures]:
        """The pictures of each image: `(views, SIZE, SIZE)`."""
        new = [row for row, own in enumerate(members.hashes) if own not in self._pictures]
        if new:
            read = pictures(members.rows(new), self.spec, self.unit)
            self._pictures |= {members.hashes[row]: own for row, own in zip(new, read, strict=True)}
        return [self._pictures[own] for own in members.hashes]

    def _known(self, members: ImageSet) -> list[References]:
        if members.hashes not in self._references:
            seen = self._seen(members)
            views = range(len(seen[0]))
            self._references[members.hashes] = [References(np.stack([own[view] for own in seen])) for view in views]
        return self._references[members.hashes]


def _together(views: Sequence[Matches], parts: Sequence[Matches], unrelated: Sequence[Unrelated]) -> Copies:
    """The matches of all views and parts as one. Of volumes, two of three views have to name the same original."""
    whole = _of_views(views, unrelated[: len(views)])
    if not parts:
        return whole
    scores = np.stack([own.scores(matches) for own, matches in zip(unrelated[len(views) :], parts, strict=True)])
    best, names = scores.argmax(axis=0), list(PARTS)
    place = np.arange(scores.shape[1])
    evidence = scores[best, place] * LISTED_ABOVE / PART_ABOVE
    # What is listed as a whole is not explained by a part.
    partial = ~whole.listed & (evidence > LISTED_ABOVE)
    rows, cosines = (np.stack([getattr(own, name) for own in parts])[best, place] for name in ("rows", "cosines"))
    # As much of the whole as if the rest had nothing in common.
    cosines = cosines * np.array([area(name) for name in names])[best]
    how = tuple(f"its {names[part]}" if own else said for own, part, said in zip(partial, best, whole.how, strict=True))
    return Copies(
        np.where(partial, rows, whole.rows),
        np.where(partial, evidence, whole.scores),
        np.where(partial, cosines, whole.cosines),
        how,
    )


def _of_views(views: Sequence[Matches], unrelated: Sequence[Unrelated]) -> Copies:
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
