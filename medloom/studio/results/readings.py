"""What a blind reading shows, where its images are from, and what its answers say."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medloom.metrics.proportions import proportion_interval
from medloom.metrics.uncertainty import Interval
from medloom.studio.forms.readings import GENERATED, REAL
from medloom.studio.store.readings import Answer, Reading

COLUMNS = ("image", "answer", "origin", "source", "seed", "condition", "model", "comment", "seconds")


@dataclass(frozen=True)
class Origin:
    """Where an image of a reading is from.

    Attributes:
        generated: whether it was generated.
        source: row of a table, or image of a job.
        seed: of a generated image.
        condition: hash of what it was asked for.
        model: hash of the model's weights.
        patient: images of one patient have one; a generated image has its own.
    """

    generated: bool
    source: str
    seed: str = ""
    condition: str = ""
    model: str = ""
    patient: str = ""

    @property
    def kind(self) -> str:
        """Real or generated."""
        return GENERATED if self.generated else REAL


def counts_of(reading: Reading, answers: Mapping[int, Answer], origins: Sequence[Origin]) -> dict[str, Counter[str]]:
    """Origin -> how often each answer was given."""
    found: dict[str, Counter[str]] = {}
    for place, answer in answers.items():
        found.setdefault(origins[place].kind, Counter())[answer.answer] += 1
    return dict(sorted(found.items(), reverse=True))


def right_of(reading: Reading, answers: Mapping[int, Answer], origins: Sequence[Origin]) -> Interval | None:
    """The share of right answers with its 95 % interval over patients; None where the origin is not what was asked."""
    if not {REAL, GENERATED} <= set(reading.choices) or not answers:
        return None
    hits = np.asarray([answer.answer == origins[place].kind for place, answer in answers.items()], float)
    return proportion_interval(hits, [origins[place].patient for place in answers])


def as_csv(answers: Mapping[int, Answer], origins: Sequence[Origin]) -> str:
    """The answers with the origin of each image, as CSV."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, answer in answers.items():
        origin = origins[place]
        known = (origin.kind, origin.source, origin.seed, origin.condition, origin.model)
        writer.writerow([place + 1, answer.answer, *known, answer.comment, f"{answer.seconds:.1f}"])
    return written.getvalue()
