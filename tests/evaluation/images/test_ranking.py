"""Several generators: paired differences are narrower than separate ones, and the worse is found, not the equal."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medloom.core.types import Condition, Sample
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.fidelity import EXCESS, fidelity_metrics
from medloom.evaluation.images.ranking import Contender, differences, paired_rows, ranked, ranking_page
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.questions import Answer

D = 6


def members(units: list[str]) -> ImageSet:
    samples = [Sample(Path(f"{row}.png"), Condition(), unit, row, row + 2) for row, unit in enumerate(units)]
    return ImageSet("synthetic", samples, tuple(units), "prompts", (None,) * len(units))


def generator(values: np.ndarray, units: list[str], real: np.ndarray) -> Any:
    """What `ranked` asks of the inputs of an evaluation."""
    sets = {"real": members([f"r{row}" for row in range(len(real))]), "synthetic": members(units)}

    def features(name: str, own: ImageSet) -> FeatureSet:
        found = real if own is sets["real"] else values
        return FeatureSet(found, np.asarray(own.units), np.full(len(found), "X"))

    return SimpleNamespace(
        data=SimpleNamespace(**sets), seed=0, extractors=("x",), features=features, classifier=None, cache=None
    )


def contender(name: str, inputs: Any) -> Contender:
    own = inputs.features("x", inputs.data.real), inputs.features("x", inputs.data.synthetic)
    yes = Answer("Are they?", "green", "yes", "They are.", "", required=True)
    return Contender(name, fidelity_metrics("x", *own, 0, verbose=False)[0], [yes], inputs)


@pytest.mark.slow
def test_the_worse_is_behind_and_the_equal_is_not() -> None:
    rng = np.random.default_rng(0)
    real, base = rng.normal(size=(160, D)), rng.normal(size=(80, D))
    units = [f"c{row}" for row in range(80)]
    # The same conditions, so that images of two generators have much in common.
    sets = {"shifted": base + 0.5, "good": base, "noisy": base + rng.normal(0, 0.05, base.shape)}
    places = ranked([contender(name, generator(values, units, real)) for name, values in sets.items()])
    assert places[-1].name == "shifted" and places[-1].is_behind
    assert {place.name for place in places[:2]} == {"good", "noisy"} and not places[1].is_behind
    page = ranking_page(places)
    assert "1. " + places[0].name in page and "worse than the best" in page and page.count("YES") == 3
    assert places[0].behind == {} and places[0].rank == 1 and places[-1].to_dict()["columns"][0]["p_holm"] < 0.05


@pytest.mark.slow
def test_pairs_are_narrower_than_two_sets_apart() -> None:
    rng = np.random.default_rng(1)
    real, base = rng.normal(size=(160, D)), rng.normal(size=(80, D))
    units = [f"c{row}" for row in range(80)]
    other = generator(base + rng.normal(0, 0.1, base.shape), units, real)
    apart = generator(base + rng.normal(0, 0.1, base.shape), units[::-1], real)
    widths = [differences(one, generator(base, units, real))[EXCESS, "x"] for one in (other, apart)]
    assert widths[0].high - widths[0].low < 0.7 * (widths[1].high - widths[1].low)


def test_rows_of_one_condition_belong_together() -> None:
    first = members([f"c{row // 2}" for row in range(60)])
    # A sixth of the first set has no counterpart.
    assert paired_rows(first, members([f"c{row // 2}" for row in reversed(range(50))])) is None
    pairs = paired_rows(first, members([f"c{row // 2}" for row in reversed(range(56))]))
    assert pairs is not None
    assert len(pairs[0]) == 56 and [first.units[row] for row in pairs[0]] == [f"c{row // 2}" for row in range(56)]
    pairs = paired_rows(first, members([f"d{row}" for row in range(60)]))
    assert pairs is not None and pairs[0].tolist() == pairs[1].tolist() == list(range(60))


@pytest.mark.slow
def test_what_a_set_lacks_is_seen() -> None:
    """Of the conditions that both have, a set of one class has all."""
    rng = np.random.default_rng(2)
    real, good, half = (rng.normal(size=(n, D)) + 4 * (np.arange(n) % 2 == 0)[:, None] for n in (160, 80, 80))
    units = [f"c{row}" for row in range(80)]
    one_class = generator(half[::2], units[::2], real)
    places = ranked([contender("one class", one_class), contender("both", generator(good, units, real))])
    assert [place.name for place in places] == ["both", "one class"] and places[1].is_behind
    behind, values = places[1].behind[EXCESS, "x"], [place.values[EXCESS, "x"].value for place in places]
    assert behind.value == pytest.approx(values[1] - values[0]) and behind.low > 0
