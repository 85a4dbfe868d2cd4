"""The part of `medloom evaluate` that reads a what-if: effects, the truth where it is known, and what patients show."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.options import ManifestOptions

if TYPE_CHECKING:
    from medloom.evaluation.effects.measure import Effects
    from medloom.evaluation.report.metrics import Figure


@dataclass(frozen=True)
class Beside:
    """What effects are set beside; see the options of `medloom evaluate`.

    Attributes:
        truth: phantom cohort.
        observed: manifest of held-out real images.
        adjust: columns that the observed difference is adjusted for.
        model: run whose patients are refused among the observed.
        reading: how the observed manifest is read.
    """

    truth: Path | None = None
    observed: Path | None = None
    adjust: tuple[str, ...] = ()
    model: Path | None = None
    reading: ManifestOptions = field(default_factory=ManifestOptions)


def evaluate_effects(whatif: Path, out: Path, beside: Beside, seed: int) -> Path:
    """What changes of the condition do; returns the folder with scores.json and report.html.

    Args:
        whatif: manifest.csv of `medloom whatif`.
        out: the folder.
        beside: what the effects are set beside.
        seed: of the resamples.

    Raises:
        UserError: see `measure_effects`, `effect_figures` and `_observed`.
    """
    from medloom.core.files import claim_output, hash_file
    from medloom.core.progress import say
    from medloom.evaluation.effects.measure import measure_effects
    from medloom.evaluation.effects.recovery import effect_figures
    from medloom.evaluation.effects.report import write_effects
    from medloom.evaluation.images.report import HTML, SCORES, begin_report
    from medloom.phantom.truth import Cohort

    truth = None if beside.truth is None else Cohort(beside.truth)
    effects = measure_effects(whatif, truth)
    figures, verdicts, notes = effect_figures(effects, seed)
    if beside.observed is not None:
        further, more = _observed(beside, whatif, beside.observed, effects, seed)
        figures, notes = [*figures, *further], [*notes, *more]
    claim_output(out, SCORES)
    begin_report(out)
    write_effects(out, effects, figures, verdicts, notes, {"whatif": hash_file(whatif), "seed": seed})
    for verdict in verdicts:
        say(f"{'holds' if verdict.passed else 'FAILS'}: {verdict.attribute}, {verdict.metric}: {verdict.rule}")
    say(f"evaluated: {out / HTML} for people, {out / SCORES} for programs.")
    return out


def _observed(
    beside: Beside, whatif: Path, path: Path, effects: "Effects", seed: int
) -> "tuple[list[Figure], list[str]]":
    """What held-out real images show, beside the shifts of a what-if.

    Raises:
        UserError: a what-if without template or masks, a manifest without masks or with rows that the template cannot
            tell, or patients that the model has seen.
    """
    from medloom.data.options import load_manifest
    from medloom.data.prompts import read_rows, read_template, template_path
    from medloom.data.tables import read_table
    from medloom.evaluation.effects.observed import observe, observed_figures
    from medloom.generators.leakage import refuse_seen

    spec, worded = effects.regions.spec, template_path(whatif)
    if spec is None or not worded.is_file() or not effects.regions.shifts:
        raise UserError(f"--observed: {whatif} has no template or no masks beside it; run a what-if with masks.")
    manifest = load_manifest(path, beside.reading, ("path", "mask"))
    if beside.model is not None:
        refuse_seen(beside.reading, beside.model, path, manifest)
    told, problems = read_rows(read_table(path), read_template(worded), str(path))
    samples = [sample for sample in manifest.samples() if sample.line in told]
    left_out = len(manifest) - len(samples)
    cells = [
        {
            **sample.condition.table,
            "view": sample.condition.view,
            "modality": sample.condition.modality,
            **told[sample.line],
        }
        for sample in samples
    ]
    measured = observe(samples, cells, spec, effects.regions.names, beside.reading.unit)
    figures, notes = observed_figures(effects, measured, beside.adjust, seed)
    if left_out:
        notes.append(f"{left_out} rows of {path} that the template cannot tell were left out ({problems[0].reason}).")
    return figures, notes
