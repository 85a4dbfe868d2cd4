"""Two models on the same conditions: what changed from the one to the other, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from medloom.evaluation.images.ranking import RANKED, SIGNIFICANT, Contender, differences
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
    answers = list(zip(before.answers, after.answers, strict=True))
    return page("before_after.html", answers=answers, changes=found, both=in_both(before, after), what=what)


def in_both(before: Contender, after: Contender) -> list[tuple[Metric, Metric]]:
    """The metrics that both reports have, in the order of the first."""

    def key(metric: Metric) -> tuple[str, str, str]:
        return metric.name, metric.subset, metric.extractor

    second = {key(metric): metric for metric in after.metrics}
    return [(metric, second[key(metric)]) for metric in before.metrics if key(metric) in second]
