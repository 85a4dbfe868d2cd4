"""The part of `medloom evaluate` that reads edits: what they keep and change, and the truth where it is known."""

from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.options import ManifestOptions

if TYPE_CHECKING:
    from medloom.core.types import Sample
    from medloom.data.phantom.truth import Cohort
    from medloom.evaluation.edits import Edits
    from medloom.evaluation.figures import Figure
    from medloom.evaluation.recovery import Verdict


def evaluate_edits(
    edits: Path, out: Path, reference: Path | None, truth: Path | None, reading: ManifestOptions, seed: int
) -> Path:
    """What edits keep and change; returns the folder with scores.json and report.html.

    Args:
        edits: manifest.csv of `medloom edit`.
        out: the folder.
        reference: the triples that were edited.
        truth: phantom cohort that they are of.
        reading: how the triples are read.
        seed: of the resamples.

    Raises:
        UserError: see `measure_edits`, `edit_figures` and `truth_figures`.
    """
    from medloom.core.files import claim_output, hash_file
    from medloom.core.progress import say
    from medloom.data.phantom.truth import Cohort
    from medloom.evaluation.edit_truth import Truth
    from medloom.evaluation.edits import edit_figures, measure_edits, read_edits_spec
    from medloom.evaluation.edits_report import write_edits
    from medloom.evaluation.report import HTML, SCORES, begin_report

    if truth is not None and reference is None:
        raise UserError("--truth of edits needs --reference, the triples that were edited.")
    triples = {} if reference is None else _triples(reference, reading)
    cohort = None if truth is None else Cohort(truth)
    also = [] if cohort is None else [Truth(cohort, read_edits_spec(edits))]
    measured = measure_edits(edits, triples, reading.unit, also)
    figures, verdicts, notes = edit_figures(measured, seed), list["Verdict"](), list[str]()
    if cohort is not None:
        further, verdicts, notes = _beside_truth(measured, cohort, triples, seed)
        figures = [*figures, *further]
    claim_output(out, SCORES)
    begin_report(out)
    facts = {"edits": hash_file(edits), "seed": seed, "arms": measured.arms}
    write_edits(out, measured, figures, verdicts, notes, facts)
    for verdict in verdicts:
        say(f"{'holds' if verdict.passed else 'FAILS'}: {verdict.attribute}, {verdict.metric}: {verdict.rule}")
    say(f"evaluated: {out / HTML} for people, {out / SCORES} for programs.")
    return out


def _triples(reference: Path, reading: ManifestOptions) -> "dict[str, Sample]":
    """Source of an edit -> the row of the triples that it was made of."""
    from medloom.data.options import load_manifest
    from medloom.recipes.making import origins

    samples = load_manifest(reference, reading, ("path", "prior")).samples()
    found = origins(reference, samples)
    return {origin.source: sample for origin, sample in zip(found, samples, strict=True)}


def _beside_truth(
    measured: "Edits", cohort: "Cohort", triples: "dict[str, Sample]", seed: int
) -> "tuple[list[Figure], list[Verdict], list[str]]":
    from medloom.evaluation.edit_truth import retest_changes, truth_figures

    sources = dict.fromkeys(str(row["source"]) for row in measured.rows)
    priors = [triples[source].condition.prior for source in sources if source in triples]
    return truth_figures(measured, retest_changes(cohort, [prior for prior in priors if prior is not None]), seed)
