"""The benchmark of coverage: intervals that cover pass, those that do not or are far too wide fail."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import KINDS, Kind, main, measured
from medloom.metrics.uncertainty import Interval


def normal(times: float) -> Kind:
    """Intervals of a mean of 0 that are `times` as wide as they should be."""

    def draw(random: np.random.Generator, size: int) -> tuple[Interval, float]:
        value = float(random.standard_normal()) / size**0.5
        return Interval(value, value - times * 1.96 / size**0.5, value + times * 1.96 / size**0.5, size), 0.0

    return Kind(draw, (10, 20, 40))


@pytest.mark.parametrize(("times", "passes"), [(1.0, True), (0.7, False), (1.3, True), (2.0, False)])
def test_width_and_coverage_decide(times: float, passes: bool) -> None:
    (found,) = measured("mean", normal(times), 20, 1500, np.inf)
    assert found.width == pytest.approx(times, rel=0.06) and found.passes == passes


def test_a_time_limit_says_how_often_it_was_repeated() -> None:
    (found,) = measured("mean", normal(1.0), 20, 10**9, 0.02)
    assert found.repetitions < 10**6


def test_rows_have_three_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--repetitions", "40", "--only", "membership AUC 0.66"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| membership AUC 0.66 | 30, 100, 400 patients a side | 40, 40, 40 | ")


@pytest.mark.slow
def test_parts_that_are_drawn_together_have_a_row_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(KINDS, "equal sets", replace(KINDS["equal sets"], sizes=(24, 28, 32)))
    main(["--repetitions", "2", "--only", "equal sets"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 6
    assert rows[0].startswith("| Frechet distance, equal sets | 24, 28, 32 images a set | 2, 2, 2 |")
    assert rows[5].startswith("| coverage beyond its reference, equal sets |")
