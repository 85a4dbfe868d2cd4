"""The curves of a training: what its metrics.csv says, thinned out, as lines of an SVG."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Points of a line; size of the drawing, and its margins at the left and below.
POINTS = 400
WIDTH, HEIGHT, LEFT, BELOW = 560, 220, 58, 24
TICKS = 4


@dataclass(frozen=True)
class Line:
    """One metric over the steps.

    Attributes:
        name: of the run it is of.
        points: of the SVG, `x,y x,y ...`.
        end: of the line in the SVG.
        last: step and value of its last point.
    """

    name: str
    points: str
    end: tuple[float, float]
    last: tuple[int, float]


@dataclass(frozen=True)
class Chart:
    """A metric of one run or several.

    Attributes:
        metric: its name.
        lines: one a run.
        xs: position and words of marks along the steps.
        ys: position and words of marks along the values.
    """

    metric: str
    lines: tuple[Line, ...]
    xs: tuple[tuple[float, str], ...]
    ys: tuple[tuple[float, str], ...]


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric -> steps and values; a line that is being written is left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    if not path.is_file():
        return found
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            try:
                step, value = int(row[0]), float(row[2])
            except (IndexError, ValueError):
                continue
            if math.isfinite(value):
                found.setdefault(row[1], []).append((step, value))
    return found


def charts_of(runs: Mapping[str, Path]) -> list[Chart]:
    """A chart for each metric of some runs.

    Args:
        runs: name -> run folder.
    """
    known = {name: read_metrics(path / "logs" / "metrics.csv") for name, path in runs.items()}
    metrics = dict.fromkeys(metric for own in known.values() for metric in own)
    return [_chart(metric, {name: own[metric] for name, own in known.items() if metric in own}) for metric in metrics]


def _chart(metric: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> Chart:
    steps = [step for own in lines.values() for step, _ in own]
    values = [value for own in lines.values() for _, value in own]
    # Losses fall by decades.
    logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    low, high = (math.log10(end) if logarithmic else end for end in (min(values), max(values)))
    span, last = max(high - low, 1e-12), max(max(steps), 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * step / last

    def y(value: float) -> float:
        return 8 + (HEIGHT - BELOW - 8) * (1 - ((math.log10(value) if logarithmic else value) - low) / span)

    drawn = []
    for name, own in lines.items():
        thin = own[:: max(1, len(own) // POINTS)]
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in thin)
        drawn.append(Line(name, points, (x(own[-1][0]), y(own[-1][1])), own[-1]))
    marks = [low + span * k / TICKS for k in range(TICKS + 1)]
    digits = 3 if logarithmic or span > 0.01 * abs(high) else 5
    ys = tuple(
        (y(10**mark if logarithmic else mark), f"{10**mark if logarithmic else mark:.{digits}g}") for mark in marks
    )
    xs = tuple((x(last * k / TICKS), f"{round(last * k / TICKS)}") for k in range(TICKS + 1))
    return Chart(metric, tuple(drawn), xs, ys)
