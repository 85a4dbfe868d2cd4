"""Copies of held-out images are compared with how often training images, which are none, agree with held-out images."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medloom.core.types import Condition, Sample
from medloom.evaluation.images import copies
from medloom.evaluation.images.copy_search import Copies
from medloom.evaluation.images.release import RELEASE
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import FAILS, HOLDS, Metric

COUNT = 200


class Search:
    """Lists a given number of images of each pair of sets."""

    seed = 0

    def __init__(self, listed: Mapping[tuple[str, str], int]) -> None:
        self.listed = listed

    def among(self, members: ImageSet, others: ImageSet, unrelated: object, rows: np.ndarray | None = None) -> Copies:
        members = members if rows is None else members.rows(rows)
        count = self.listed.get((members.name, others.name), 0)
        scores = np.where(np.arange(len(members)) < count, 9.0, 0.0)
        return Copies(np.zeros(len(members), int), scores, scores / 10, ("",) * len(members))


def members(name: str) -> ImageSet:
    samples = [Sample(Path(f"{name}-{row}.png"), Condition(), f"{name}-{row}", row, row) for row in range(COUNT)]
    return ImageSet.of_patients(samples, name)


def held_out(listed: Mapping[tuple[str, str], int], train: bool = True) -> Metric:
    data = SimpleNamespace(
        real=members("real"), synthetic=members("synthetic"), train=members("training") if train else None
    )
    found, _ = copies._repeated(data, Search(listed), [])
    return next(metric for metric in found if metric.name == copies.HELD_OUT)


@pytest.mark.parametrize(("synthetic", "training", "answer"), [(4, 4, HOLDS), (0, 0, HOLDS), (40, 4, FAILS)])
def test_what_unrelated_images_do_as_well_is_no_copy(synthetic: int, training: int, answer: str) -> None:
    metric = held_out({("synthetic", "real"): synthetic, ("training", "real"): training})
    assert (metric.value, metric.reference.value) == (synthetic / COUNT, training / COUNT)
    (rule,) = (rule for rule in RELEASE if rule.metric == copies.HELD_OUT)
    assert [judged.answer for judged in rule.judge([metric], {})] == [answer]


def test_without_training_images_no_image_is_expected_to_agree() -> None:
    metric = held_out({("synthetic", "real"): 4}, train=False)
    assert (metric.reference.value, metric.reference.low) == (0.0, None)
