"""`medloom evaluate edits`: what edits keep and change, compared with copies, later images and the truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.data.manifest import ManifestOptions, load_manifest
from medloom.evaluation.report.options import ReportOptions


@dataclass(frozen=True, kw_only=True)
class Config(ReportOptions, ManifestOptions):
    """Measure what edits of prior images keep and change.

    Attributes:
        data: manifest.csv of `medloom edit`.
        out: folder of scores.json and report.html.
        reference: manifest of the triples that were edited; edits are compared with their later images.
        truth: phantom cohort of the triples; edits are compared with what truly happened.
        judge: columns of --train and --reference, e.g. finding sex age view, that classifiers trained on --train
            predict on the edits. mask trains a segmentation network, which says whether the anatomy stays in place and
            is there once.
        train: manifest of real images of other patients, on which the judges are trained.
        image_size: pixels of the judges' images; one number for a square, or one per axis.
        network: the judging classifiers: small (for a CPU) or densenet121.
        steps: optimiser steps of each judge.
        seed: of the judges and of all resamples.
        device: auto, cpu or cuda.
    """

    common: ClassVar[tuple[str, ...]] = (
        "data",
        "out",
        "reference",
        "truth",
        "judge",
        "train",
        "image_size",
        "plan",
        "gate",
        "seed",
        "device",
        "unit",
    )
    example: ClassVar[str] = "medloom evaluate edits edits/manifest.csv --reference triples.csv --out report"

    data: Path
    out: Path
    reference: Path | None = None
    truth: Path | None = None
    judge: tuple[str, ...] = ()
    train: Path | None = None
    image_size: tuple[int, ...] = (64,)
    network: str = "small"
    steps: int = 200
    seed: int = 0
    device: str = "auto"


def run(config: Config) -> Path:
    """Evaluate; returns the folder of scores.json and report.html.

    Raises:
        UserError: not a folder of `medloom edit`, edits of other triples, or judges that cannot be trained.
        GateError: a bound of --gate that is not met.
    """
    from medloom.core.files import hash_file
    from medloom.data.dataset import measure_spec
    from medloom.data.manifest import read_manifest
    from medloom.data.units import joined_units
    from medloom.evaluation.edits.anatomy import MASK, anatomy_metrics, segment_edits
    from medloom.evaluation.edits.judges import composite, judge_edits, judged_metrics, refuse_known
    from medloom.evaluation.edits.measure import EDIT, edit_metrics, edits_notes, measure_edits, read_edits_spec
    from medloom.evaluation.edits.page import MEANINGS, edits_page
    from medloom.evaluation.edits.release import LACK, QUESTIONS, SIGNED
    from medloom.evaluation.edits.truth import Truth, retest_changes, truth_metrics
    from medloom.evaluation.images.cache import EvaluationCache, judge_options
    from medloom.evaluation.report.gate import RELEASE, check_allowed, enforce, judgements, of_verdicts, read_gate
    from medloom.evaluation.report.openings import count_opening
    from medloom.evaluation.report.plan import read_plan
    from medloom.evaluation.report.report import Report, report_folder
    from medloom.generation.requests import origins
    from medloom.phantom.truth import Cohort

    # Before anything else is read.
    plan = read_plan(config.plan, MEANINGS, SIGNED)
    for name in ("truth", "judge"):
        if getattr(config, name) and config.reference is None:
            raise UserError(f"--{name} needs --reference, the triples that were edited.")
    if bool(config.judge) != (config.train is not None):
        raise UserError("--judge and --train go together: columns to judge, and real images of other patients.")
    options = judge_options(config.network, config.steps, config.seed, config.device)
    rules = read_gate(config.gate, MEANINGS, signed=SIGNED)
    check_allowed(config.allow_inconclusive, MEANINGS, config.gate)

    triples, unit, reference = {}, config.unit, None
    if config.reference is not None:
        reference = load_manifest(config.reference, config, ("path", "prior"))
        unit, samples = joined_units(unit, reference.units), reference.samples()
        triples = dict(zip([origin.source for origin in origins(config.reference, samples)], samples, strict=True))
    truth = None if config.truth is None else Truth(Cohort(config.truth), read_edits_spec(config.data))
    edits = measure_edits(config.data, triples, unit, [] if truth is None else [truth.add])
    report = Report()
    report.add("edits", edit_metrics(edits, config.seed), edits_notes(config.data, edits.arms))
    if truth is not None:
        used = dict.fromkeys(edit.source for edit in edits.rows)
        priors = [triples[source].condition.prior_file for source in used if source in triples]
        retests = retest_changes(truth.cohort, [prior for prior in priors if prior is not None])
        metrics, verdicts, notes = truth_metrics(truth, edits, retests, config.seed)
        report.add("edits", metrics, notes, verdicts)
    with report_folder(config.out):
        if config.train is not None:
            known = load_manifest(config.train, config, ("path",))
            unit, train = joined_units(unit, known.units), known.samples()
            manifest = read_manifest(config.data, need=("path",), need_patients=False)
            rows = zip(manifest.samples(), manifest.frame["arm"], manifest.frame["source_id"], strict=True)
            pairs = [
                (edit, triples[str(source)]) for edit, arm, source in rows if arm == EDIT and str(source) in triples
            ]
            refuse_known(train, pairs)
            spec = measure_spec([*train, *triples.values()], config.image_size, "pad", unit)
            cache = EvaluationCache(config.out, spec, options, unit)
            for column in config.judge:
                if column == MASK:
                    found = anatomy_metrics(segment_edits(cache, train, pairs), config.seed)
                else:
                    found = judged_metrics(judge_edits(cache, train, pairs, column), config.seed)
                report.add("edits", *found)
            report.notes += composite(report.metrics)
        report.facts = {"edits": hash_file(config.data), "seed": config.seed, "arms": edits.arms}
        unmeasured = dict.fromkeys(MEANINGS, "the edits do not allow it" if truth is not None else LACK)
        report.answer(QUESTIONS, unmeasured)
        openings = None
        if reference is not None:
            openings = count_opening(reference, "evaluate edits", plan, config.out, hash_file(config.data))
        report.follow(plan, openings, unmeasured)
        report.write(config.out, edits_page(edits, report, truth), config.json)
        required = of_verdicts(report.verdicts, LACK) if config.gate == RELEASE else []
        enforce(config.gate, required or judgements(rules, report.metrics, unmeasured), config.allow_inconclusive)
        return config.out
