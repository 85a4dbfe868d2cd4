"""`medloom evaluate whatif`: effects of changed columns, compared with the truth and with held-out patients."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.data.manifest import ManifestOptions, load_manifest
from medloom.evaluation.report.options import ReportOptions
from medloom.generators.leakage import refuse_seen


@dataclass(frozen=True, kw_only=True)
class Config(ReportOptions, ManifestOptions):
    """Measure what the changes of a what-if do to the images.

    Attributes:
        data: manifest.csv of `medloom whatif`.
        out: folder of scores.json and report.html.
        truth: phantom cohort whose rows were given to `medloom whatif`; effects are compared with the true ones.
        observed: manifest of held-out real images with masks and the template's columns. The differences between
            patients with and without a value are compared with the shifts of the what-if.
        adjust: columns that the observed difference is adjusted for, e.g. age view.
        model: run folder of the generator; patients of --observed that it was trained on are refused.
        seed: of all resamples.
    """

    common: ClassVar[tuple[str, ...]] = (
        "data",
        "out",
        "truth",
        "observed",
        "adjust",
        "model",
        "plan",
        "gate",
        "seed",
        "unit",
    )
    example: ClassVar[str] = "medloom evaluate whatif whatif/manifest.csv --truth cohort --out report"

    data: Path
    out: Path
    truth: Path | None = None
    observed: Path | None = None
    adjust: tuple[str, ...] = ()
    model: Path | None = None
    seed: int = 0


def run(config: Config) -> Path:
    """Evaluate; returns the folder of scores.json and report.html.

    Raises:
        UserError: not a folder of `medloom whatif`, another cohort's patients, or observed images that cannot be used.
        GateError: a bound of --gate that is not met.
    """
    from medloom.core.files import hash_file
    from medloom.core.options import flag_of
    from medloom.core.seeds import check_seed
    from medloom.data.units import joined_units
    from medloom.evaluation.effects.measure import measure_effects
    from medloom.evaluation.effects.observed import observed_metrics, read_observed
    from medloom.evaluation.effects.page import whatif_page
    from medloom.evaluation.effects.recovery import MEANINGS, effect_metrics
    from medloom.evaluation.effects.release import LACK, QUESTIONS, SIGNED
    from medloom.evaluation.report.gate import RELEASE, check_allowed, enforce, judgements, of_verdicts, read_gate
    from medloom.evaluation.report.openings import count_opening
    from medloom.evaluation.report.plan import read_plan
    from medloom.evaluation.report.report import Report, report_folder
    from medloom.phantom.truth import Cohort

    # Before anything else is read.
    plan = read_plan(config.plan, MEANINGS, SIGNED)
    for name in ("adjust", "model", *(field.name for field in fields(ManifestOptions))):
        if getattr(config, name) and config.observed is None:
            raise UserError(f"{flag_of(name)} needs --observed, a manifest of held-out real images.")
    check_seed(config.seed)
    rules = read_gate(config.gate, MEANINGS, signed=SIGNED)
    check_allowed(config.allow_inconclusive, MEANINGS, config.gate)

    cohort = None if config.truth is None else Cohort(config.truth)
    effects = measure_effects(config.data, cohort)
    report = Report()
    metrics, verdicts, notes = effect_metrics(effects, config.seed)
    if cohort is not None and cohort.spec.amplify != 1:
        notes = [
            f"The virtual patients' effects of smoking are {cohort.spec.amplify:g} times those of the literature.",
            *notes,
        ]
    report.add("effects", metrics, notes, verdicts)
    for note in notes if cohort is not None and not verdicts else ():
        say(f"no verdict: {note}")
    manifest = None
    if config.observed is not None:
        manifest = load_manifest(config.observed, config, ("path", "mask"))
        if config.model is not None:
            refuse_seen(config.model, config.observed, manifest)
        unit = joined_units(config.unit, manifest.units)
        observed, left_out = read_observed(effects, config.data, manifest, unit)
        metrics, notes = observed_metrics(effects, observed, config.adjust, config.seed)
        report.add("effects", metrics, [*notes, *left_out])
    report.facts = {
        "arms": {name: arm.estimand for name, arm in effects.arms.items()},
        "whatif": hash_file(config.data),
        "seed": config.seed,
    }
    unmeasured = dict.fromkeys(MEANINGS, "no row of an arm allows it" if cohort is not None else LACK)
    report.answer(QUESTIONS, unmeasured)
    with report_folder(config.out):
        openings = None
        if manifest is not None:
            openings = count_opening(manifest, "evaluate whatif", plan, config.out, hash_file(config.data))
        report.follow(plan, openings, unmeasured)
        report.write(config.out, whatif_page(effects, report), config.json)
    found = of_verdicts(report.verdicts, LACK) if config.gate == RELEASE else []
    enforce(config.gate, found or judgements(rules, report.metrics, unmeasured), config.allow_inconclusive)
    return config.out
