"""The part of `medloom evaluate` that reads edits: what they keep and change, and the truth where it is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.options import ManifestOptions

if TYPE_CHECKING:
    from medloom.core.types import Sample
    from medloom.downstream.classifier import ClassifierOptions
    from medloom.evaluation.edits.measure import Edits
    from medloom.evaluation.effects.recovery import Verdict
    from medloom.evaluation.report.metrics import Figure
    from medloom.phantom.truth import Cohort


@dataclass(frozen=True)
class EditsBeside:
    """What edits are set beside; see the options of `medloom evaluate`.

    Attributes:
        reference: the triples that were edited.
        truth: phantom cohort that they are of.
        train: real images that judges are trained on.
        judge: columns that they tell; `mask` is a segmenter's.
        reading: how these are read.
        classifier: how judges are trained.
        image_size: pixels of the judges' images.
    """

    reference: Path | None
    truth: Path | None
    train: Path | None
    judge: tuple[str, ...]
    reading: ManifestOptions
    classifier: "ClassifierOptions"
    image_size: tuple[int, ...]


def evaluate_edits(edits: Path, out: Path, beside: EditsBeside, seed: int) -> Path:
    """What edits keep and change; returns the folder with scores.json and report.html.

    Args:
        edits: manifest.csv of `medloom edit`.
        out: the folder.
        beside: what they are set beside.
        seed: of the resamples.

    Raises:
        UserError: see `measure_edits`, `edit_figures`, `truth_figures` and `judge_edits`.
    """
    from medloom.core.files import claim_output, hash_file
    from medloom.core.progress import say
    from medloom.evaluation.edits.measure import edit_figures, measure_edits, read_edits_spec
    from medloom.evaluation.edits.report import write_edits
    from medloom.evaluation.edits.truth import Truth
    from medloom.evaluation.images.report import HTML, SCORES, begin_report
    from medloom.phantom.truth import Cohort

    for name, given in (("truth", beside.truth), ("judge", beside.judge)):
        if given and beside.reference is None:
            raise UserError(f"--{name} of edits needs --reference, the triples that were edited.")
    if beside.judge and beside.train is None:
        raise UserError("--judge needs --train, real images of other patients on which the judges are trained.")
    triples = {} if beside.reference is None else _triples(beside.reference, beside.reading)
    cohort = None if beside.truth is None else Cohort(beside.truth)
    also = [] if cohort is None else [Truth(cohort, read_edits_spec(edits))]
    measured = measure_edits(edits, triples, beside.reading.unit, also)
    figures, verdicts, notes = edit_figures(measured, seed), list["Verdict"](), list[str]()
    if cohort is not None:
        further, verdicts, notes = _beside_truth(measured, cohort, triples, seed)
        figures = [*figures, *further]
    claim_output(out, SCORES)
    begin_report(out)
    if beside.judge:
        further, more = _judged(edits, out, beside, triples, seed)
        figures, notes = [*figures, *further], [*notes, *more]
    facts = {"edits": hash_file(edits), "seed": seed, "arms": measured.arms}
    write_edits(out, measured, figures, verdicts, notes, facts)
    for verdict in verdicts:
        say(f"{'holds' if verdict.passed else 'FAILS'}: {verdict.attribute}, {verdict.metric}: {verdict.rule}")
    say(f"evaluated: {out / HTML} for people, {out / SCORES} for programs.")
    return out


def _judged(
    edits: Path, out: Path, beside: EditsBeside, triples: "dict[str, Sample]", seed: int
) -> "tuple[list[Figure], list[str]]":
    """What classifiers and a segmenter of real images say of the arm `edit`."""
    from medloom.data.dataset import measure_spec
    from medloom.data.manifest import read_manifest
    from medloom.data.options import load_manifest
    from medloom.evaluation.edits.anatomy import MASK, anatomy_figures, segment_edits
    from medloom.evaluation.edits.judges import composite, judge_edits, judged_figures, refuse_known
    from medloom.evaluation.edits.measure import EDIT
    from medloom.evaluation.images.classifiers import Workshop

    if beside.train is None:
        raise ValueError("judges without training images, which was checked for")
    train = load_manifest(beside.train, beside.reading, ("path",)).samples()
    made = read_manifest(edits, need=("path",), need_patients=False)
    rows = zip(made.samples(), made.frame["arm"], made.frame["source_id"], strict=True)
    pairs = [(sample, triples[str(source)]) for sample, arm, source in rows if arm == EDIT and str(source) in triples]
    refuse_known(train, pairs)
    reading = beside.reading
    spec = measure_spec([*train, *triples.values()], beside.image_size, "pad", reading.unit)
    shop = Workshop(out, spec, beside.classifier, reading.unit)
    figures: list[Figure] = []
    notes: list[str] = []
    for column in beside.judge:
        if column == MASK:
            further, more = anatomy_figures(segment_edits(shop, train, pairs), seed)
        else:
            further, more = judged_figures(judge_edits(shop, train, pairs, column), seed)
        figures, notes = [*figures, *further], [*notes, *more]
    return figures, [*notes, *composite(figures)]


def _triples(reference: Path, reading: ManifestOptions) -> "dict[str, Sample]":
    """Source of an edit -> the row of the triples that it was made of."""
    from medloom.data.options import load_manifest
    from medloom.generation.requests import origins

    samples = load_manifest(reference, reading, ("path", "prior")).samples()
    found = origins(reference, samples)
    return {origin.source: sample for origin, sample in zip(found, samples, strict=True)}


def _beside_truth(
    measured: "Edits", cohort: "Cohort", triples: "dict[str, Sample]", seed: int
) -> "tuple[list[Figure], list[Verdict], list[str]]":
    from medloom.evaluation.edits.truth import retest_changes, truth_figures

    sources = dict.fromkeys(str(row["source"]) for row in measured.rows)
    priors = [triples[source].condition.prior for source in sources if source in triples]
    return truth_figures(measured, retest_changes(cohort, [prior for prior in priors if prior is not None]), seed)
