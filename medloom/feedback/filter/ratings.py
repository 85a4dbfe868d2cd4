"""Ratings as a filter learns from them: images, what was asked for, and what each rater said."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.core.types import Sample
from medloom.data.manifest import Manifest
from medloom.feedback.filter.network import ITEMS, LEVELS
from medloom.feedback.filter.prompts import prompt_words
from medloom.feedback.ratings.rubric import level_of

# Cells that say nothing, and how tables of generated images name their patients.
UNRATED, NO_PATIENT = 0, "unknown"
LEAST = 20


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings, one a row.

    Attributes:
        samples: of the rated images.
        prompts: what was asked for, in words.
        raters: number of each rating's rater; names: of the raters.
        names: of the raters, in the order of their numbers.
        items: realism and match, int64 `(N, 2)`, 0 where it was not rated.
        levels: of the rubric, int64 `(N,)`, 0 where it is not known.
    """

    samples: Sequence[Sample]
    prompts: tuple[str, ...]
    raters: NDArray[np.int64]
    names: tuple[str, ...]
    items: NDArray[np.int64]
    levels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, rows: Sequence[int] | NDArray[np.integer]) -> "Ratings":
        """Some of the ratings."""
        return Ratings(
            [self.samples[row] for row in rows],
            tuple(self.prompts[row] for row in rows),
            self.raters[rows],
            self.names,
            self.items[rows],
            self.levels[rows],
        )

    @property
    def images(self) -> tuple[Path, ...]:
        """The file of each rating's image."""
        return tuple(sample.path for sample in self.samples)


def read_ratings(manifest: Manifest, columns: Sequence[str]) -> Ratings:
    """Ratings of a table that `medloom rate export` wrote, or one with a column `level`, or `realism` and `match`.

    Args:
        manifest: a rating a row.
        columns: of the table that are part of the prompt.

    Raises:
        UserError: no ratings, too few, values outside of 1 to 3, or all of one level.
    """
    known = set(manifest.clinical_columns)
    if "level" not in known and not set(ITEMS) <= known:
        raise UserError(
            f"{manifest.source} has no ratings: it needs a column level, or realism and match, each from 1 to {LEVELS};"
            " `medloom rate export` writes such a table."
        )
    samples = manifest.samples()
    items = np.array([[_rating(sample, name, manifest) for name in ITEMS] for sample in samples], np.int64)
    levels = np.array([_rating(sample, "level", manifest) for sample in samples], np.int64)
    rated = items.all(1)
    levels = np.where(rated, [level_of(*own) for own in items.tolist()], levels)
    kept = np.flatnonzero(levels != UNRATED)
    if len(kept) < LEAST:
        raise UserError(f"{manifest.source} has {len(kept)} ratings; a filter needs {LEAST} at least.")
    if len(set(levels[kept].tolist())) == 1:
        raise UserError(
            f"{manifest.source}: all {len(kept)} ratings are of level {levels[kept][0]}, from which nothing can be"
            " learnt; add ratings of better or worse images."
        )
    named = [str(sample.condition.table.get("rater") or "") for sample in samples]
    names = tuple(sorted({named[row] for row in kept}))
    found = Ratings(
        samples,
        tuple(prompt_words(sample.condition, columns) for sample in samples),
        np.array([names.index(name) if name in names else 0 for name in named], np.int64),
        names,
        items,
        levels,
    )
    return found.rows(kept)


def _rating(sample: Sample, column: str, manifest: Manifest) -> int:
    """A cell from 1 to 3, or 0 where it is empty.

    Raises:
        UserError: names the line.
    """
    cell = sample.condition.table.get(column)
    if cell is None or str(cell).strip() == "":
        return UNRATED
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if value not in range(1, LEVELS + 1):
        raise UserError(
            f"{manifest.source}, line {sample.line}: {column} is {cell!r}; a rating is 1, 2 or {LEVELS}, or empty."
        )
    return int(value)


def split_ratings(ratings: Ratings, fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    """Rows to learn from, rows that are held out, and what they have none of in common.

    Prompts are held out, and of the others no patient and no image of theirs is learnt from. Where there are fewer than
    four prompts, or most ratings would be lost, images and their patients are held out alone.

    Args:
        ratings: to split.
        fraction: of the ratings that are held out, about.
        seed: of the choice.
    """
    wanted = fraction * len(ratings)
    prompts = Counter(ratings.prompts)
    for names, what in ((ratings.prompts, "prompts and patients"), (_owners(ratings), "patients")):
        counts: Mapping[str, int] = Counter(names)
        # A prompt of a third of all ratings, such as "normal", is learnt from.
        usual = [name for name in sorted(counts) if counts[name] <= len(ratings) / 3 or names is not ratings.prompts]
        order = numpy_generator("ratings", seed, what).permutation(len(usual))
        chosen: set[str] = set()
        held = 0
        for place in order:
            if held < wanted:
                chosen.add(usual[place])
                held += counts[usual[place]]
        out = np.array([name in chosen for name in names])
        owners = _owners(ratings)
        theirs = {owner for owner, held_out in zip(owners, out, strict=True) if held_out}
        free = np.array([owner not in theirs for owner in owners])
        enough = free.sum() >= len(ratings) / 2 and len(prompts) >= (4 if names is ratings.prompts else 1)
        if enough or names is not ratings.prompts:
            break
    return np.flatnonzero(free & ~out), np.flatnonzero(out), what


def _owners(ratings: Ratings) -> tuple[str, ...]:
    """What must not be on both sides: a patient, or the image itself where patients are not known."""
    return tuple(
        str(sample.condition.table.get("patient") or (sample.path if sample.patient == NO_PATIENT else sample.patient))
        for sample in ratings.samples
    )
