"""Training a filter: real images first, then ratings, then calibration on ratings that it has not learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.spec import ImageSpec
from medloom.feedback.filter.calibration import Calibration, calibrated
from medloom.feedback.filter.member import FilterOptions, Member, Pairs, learn_from_ratings, learn_from_real
from medloom.feedback.filter.quality_filter import BEST, Judgement, QualityFilter
from medloom.feedback.filter.ratings import Ratings, split_ratings
from medloom.generators.options import TextOptions
from medloom.generators.training_facts import build_text_encoder


@dataclass(frozen=True, eq=False)
class Trained:
    """A filter, and what it says of the ratings that it has not learnt from.

    Attributes:
        filter: calibrated on those ratings.
        held_out: rows of the ratings.
        apart: what they have none of in common with the others: prompts and patients, or patients.
        judgement: of their images, before calibration.
    """

    filter: QualityFilter
    held_out: NDArray[np.intp]
    apart: str
    judgement: Judgement


def train_filter(
    images: NDArray[np.floating],
    ratings: Ratings,
    real: Pairs | None,
    spec: ImageSpec,
    columns: Sequence[str],
    text: TextOptions,
    options: FilterOptions,
    verbose: bool = True,
) -> Trained:
    """Train a filter.

    Args:
        images: of the ratings, `(N, C, *size)` in the space of `spec`.
        ratings: one an image.
        real: real images with their prompts, from which it learns first; None begins with the ratings.
        spec: the space.
        columns: of the table that are part of the prompts.
        text: the text encoder.
        options: how.
        verbose: whether to show progress.
    """
    learnt, held_out, apart = split_ratings(ratings, options.hold_out, options.seed)
    corpus = [*ratings.prompts, *(real.prompts if real is not None else ())]
    members = []
    for number in range(options.members):
        seed = options.seed * 1000 + number
        member = Member.fresh(build_text_encoder(corpus, text, seed), images.shape[1:], seed)
        if real is not None and options.warm_steps:
            learn_from_real(member, real, options, number, verbose)
        learn_from_ratings(member, images[learnt], ratings.rows(learnt), real, options, number, verbose)
        members.append(member.eval())
    plain = QualityFilter(members, spec, tuple(columns), Calibration(), text.max_tokens)
    known = ratings.rows(held_out)
    judgement = plain.judge_arrays(images[held_out], known.prompts)
    calibration = calibrated(judgement.score, known.levels == BEST)
    whole = QualityFilter(members, spec, tuple(columns), calibration, text.max_tokens)
    return Trained(whole, held_out, apart, judgement)
