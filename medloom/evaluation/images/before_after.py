"""Two models on the same conditions: what changed from the one to the other, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from medloom.evaluation.images.ranking import RANKED, SIGNIFICANT, Column, Contender, differences
from medloom.evaluation.report.metrics import Metric
from medloom.evaluation.report.report import page
from medloom.metrics.uncertainty import Interval, holm, p_value


@dataclass(frozen=True)
class Change:
    """How much a metric changed, on the same real patients and conditions.

    Attributes:
        metric: its name.
        extractor: of its features; empty for none.
        change: the second model's value less the first one's.
        p: of no change, after Holm's correction over all changes.
    """

    metric: str
    extractor: str
    change: Interval
    p: float

    @property
    def word(self) -> str:
        """Better, worse, or that these images cannot tell."""
        if self.p >= SIGNIFICANT:
            return "no change shown"
        return "better" if (self.change.value > 0) == RANKED.get(self.metric, True) else "worse"


def changes(before: Contender, after: Contender) -> list[Change]:
    """The paired changes of the metrics that rank generators."""
    found = differences(after.inputs, before.inputs)
    corrected = holm([p_value(change) for change in found.values()]) if found else []
    return [
        Change(name, extractor, change, p)
        for ((name, extractor), change), p in zip(found.items(), corrected, strict=True)
    ]


def before_after_page(before: Contender, after: Contender, found: Sequence[Change], what: str) -> str:
    """The page as HTML.

    Args:
        before: the first model's evaluation.
        after: the second one's, on the same conditions.
        found: see `changes`.
        what: was compared, a sentence.
    """
    second = {(metric.section, *_column(metric), metric.subset): metric for metric in after.metrics}
    both = [
        (metric, second[key])
        for metric in before.metrics
        if (key := (metric.section, *_column(metric), metric.subset)) in second
    ]
    answers = list(zip(before.answers, after.answers, strict=True))
    return page("before_after.html", answers=answers, changes=found, both=both, what=what)


def _column(metric: Metric) -> Column:
    return metric.name, metric.extractor
