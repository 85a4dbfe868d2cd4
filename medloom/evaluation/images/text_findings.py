"""Which images show a finding, by their texts, and which findings enough patients have to be measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medloom.core.seeds import numpy_generator
from medloom.evaluation.images.cache import finding_rows
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import sampled_units
from medloom.report_text.finding_terms import NONE_OF_THESE, SIDELESS, VOCABULARY
from medloom.report_text.findings import ABSENT, PRESENT, Key, Mention, is_partial, summary_of

SIDES = ("left", "right")
# Patients with and without a finding to train on, and units with and without it to measure on.
TRAINED, MEASURED = 8, 5
MOST_TRAINED = 2000
READ_TEXTS = 100_000

Truth = NDArray[np.float64]


@dataclass(frozen=True)
class Output:
    """What the classifier answers.

    Attributes:
        finding: of the vocabulary.
        side: left, right, or None for any.
    """

    finding: str
    side: str | None = None

    @property
    def name(self) -> str:
        """In the report."""
        return self.finding if self.side is None else f"{self.finding}, {self.side}"


OUTPUTS = tuple(
    Output(finding, side)
    for finding in VOCABULARY
    if finding != NONE_OF_THESE
    for side in (None, *(() if finding in SIDELESS else SIDES))
)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with what their texts say.

    Attributes:
        members: the images.
        truth: `(n, outputs)`, 1 where a text says that the image shows the finding, 0 where it says that it does not or
            does not mention it, nan where it leaves it open.
    """

    members: ImageSet
    truth: Truth

    @property
    def units(self) -> NDArray[np.generic]:
        """What intervals are over: patients, or prompts."""
        return np.asarray(self.members.units)


@dataclass(frozen=True, eq=False)
class FindingSets:
    """The findings that can be measured, and the three sets, with a column of labels for each of them.

    Attributes:
        outputs: what the classifier answers; none if no finding is in enough patients.
        train: real images outside the reference, at most 2,000.
        real: held-out real images.
        synthetic: synthetic images.
        lack: why there is no output; empty if there is one.
    """

    outputs: tuple[Output, ...]
    train: Labelled
    real: Labelled
    synthetic: Labelled
    lack: str


@lru_cache(maxsize=READ_TEXTS)
def _stated(text: str) -> Mapping[Key, Mention]:
    return summary_of(text)


def truth_of(text: str, output: Output) -> float:
    """What a text says of a finding: 1 it is there, 0 it is not, nan it is left open.

    Open are findings that are uncertain, partly absent ("no large effusion"), and, of a side, those whose side is not
    stated. A finding that a report does not mention is not there, as reports leave out what is normal; one of the other
    side alone is not on this side.
    """
    stated = {side: mention for (finding, side), mention in _stated(text).items() if finding == output.finding}
    if output.side is None:
        mentions = list(stated.values())
        if any(mention.status == PRESENT for mention in mentions):
            return 1.0
        return np.nan if any(_is_open(mention) for mention in mentions) else 0.0
    own, general = stated.get(output.side), stated.get(None)
    if own is not None:
        return 1.0 if own.status == PRESENT else np.nan if _is_open(own) else 0.0
    return np.nan if general is not None and _is_open(general) else 0.0


def _is_open(mention: Mention) -> bool:
    """Whether a mention does not exclude the finding."""
    return mention.status != ABSENT or is_partial(mention)


def label(members: ImageSet, outputs: Sequence[Output] = OUTPUTS) -> Labelled:
    """The images of a set that have a text, with what it says."""
    own = members.with_text()
    rows = [[truth_of(text, output) for output in outputs] for text in own.texts]
    return Labelled(own, np.array(rows, np.float64).reshape(len(own), len(outputs)))


def finding_sets(data: Comparison) -> FindingSets:
    """The findings that can be measured, with the sets to train on and to measure on.

    A finding counts in the modalities in which a training image shows it; in others the modality alone would say that
    it is not there.

    Args:
        data: the sets.
    """
    train, real, synthetic = (label(known) for known in (_at_most(data.other_real), data.real, data.synthetic))
    for known in (real, synthetic, train):
        known.truth[~_seen_modalities(train, known.members)] = np.nan
    counts = [_counts(known) for known in (train, real, synthetic)]
    enough = [
        min(trained) >= TRAINED and min(*held, *ours) >= MEASURED
        for trained, held, ours in zip(*(np.asarray(count).T.tolist() for count in counts), strict=True)
    ]
    chosen = _divisible(train, np.flatnonzero(enough)) if any(enough) else np.flatnonzero(enough)
    outputs, lack = tuple(OUTPUTS[column] for column in chosen), "" if len(chosen) else _lack(data, counts)
    train, real, synthetic = (Labelled(known.members, known.truth[:, chosen]) for known in (train, real, synthetic))
    return FindingSets(outputs, train, real, synthetic, lack)


def _at_most(members: ImageSet) -> ImageSet:
    """At most so many images with a text as a classifier is trained on."""
    own = members.with_text()
    return own.rows(np.sort(numpy_generator("images with findings").permutation(len(own))[:MOST_TRAINED]))


def _seen_modalities(train: Labelled, members: ImageSet) -> NDArray[np.bool_]:
    """Whether a training image of the modality of each image shows the finding of each output, on any side."""
    groups, found = np.asarray(train.members.groups), np.zeros((len(members), len(OUTPUTS)), bool)
    for column, output in enumerate(OUTPUTS):
        whole = OUTPUTS.index(Output(output.finding))
        found[:, column] = np.isin(members.groups, np.unique(groups[train.truth[:, whole] == 1]))
    return found


def _counts(known: Labelled) -> tuple[list[int], list[int]]:
    """Units with each finding, and units without it."""
    units = known.units if known.members.counted != "prompts" else sampled_units(known.units)
    present, absent = ([len(set(units[column == state])) for column in known.truth.T] for state in (1, 0))
    return present, absent


def _divisible(train: Labelled, columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those columns whose findings are both there and not there on both sides of the division of the patients."""
    held = np.isin(np.arange(len(train.members)), finding_rows(train.members, train.truth[:, columns]))
    kept = [
        column
        for column in columns
        if all({0.0, 1.0} <= set(train.truth[part, column].tolist()) for part in (held, ~held))
    ]
    if len(kept) in (0, len(columns)):
        return np.asarray(kept, np.intp)
    return _divisible(train, np.asarray(kept, np.intp))


def _lack(data: Comparison, counts: Sequence[tuple[list[int], list[int]]]) -> str:
    """Why no finding can be measured."""
    if not len(data.synthetic.with_text()):
        return "no synthetic image has a text; name the table of their texts with --conditions"
    if not len(data.real.with_text()):
        return "no held-out real image has a text; name their column with --columns text=NAME"
    if not len(data.other_real):
        return "there are no real images outside the reference to train a classifier on; give --train"
    if not len(data.other_real.with_text()):
        return f"no {data.other_real.name} image has a text; name their column with --columns text=NAME"
    needed = np.array([TRAINED, TRAINED, *[MEASURED] * 4])[:, None]
    found = np.concatenate([np.asarray(count) for count in counts])
    wholes = [column for column, output in enumerate(OUTPUTS) if output.side is None]
    nearest = max(wholes, key=lambda column: float(np.minimum(found[:, column] / needed[:, 0], 1).sum()))
    parts = [f"{one} and {other}" for one, other in found[:, nearest].reshape(3, 2)]
    return (
        f"no finding that the texts name is in enough images: of {OUTPUTS[nearest].name!r}, {parts[0]} patients to"
        f" train on have and lack it, {parts[1]} held-out and {parts[2]} synthetic ones; it needs {TRAINED} and"
        f" {TRAINED}, {MEASURED} and {MEASURED}, {MEASURED} and {MEASURED}"
    )
