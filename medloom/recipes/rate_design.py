"""`medloom rate design`: who reads which image when, blinded packages, and how many readers and cases are needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.data.manifest import ManifestOptions

if TYPE_CHECKING:
    from medloom.feedback.reader_study.sample_size import Assumptions

DESIGN = "design.json"
RUBRICS = ("quality", "origin")


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Design a reader study, and write a blinded package for each rater.

    Attributes:
        synthetic: manifest of synthetic images; with columns arm and case, readers see every case in every arm, one arm
            per session.
        out: folder of design.json, key.csv and the packages.
        raters: names, separated by commas.
        real: manifest of real images that are hidden among them, as many as synthetic cases.
        cases: number of cases, real ones included; 0 for all.
        sessions: number of sessions of each rater (default: one per arm).
        washout_days: least number of days between two sessions of a rater.
        repeats: fraction of a session's images that are shown again.
        rubric: quality (realism and match) or origin (real or synthetic).
        window: HU that become black and white, of 2-D images in HU.
        seed: of all draws.
        power: print how many readers and cases have this power; needs difference or margin.
        difference: smallest difference in AUC that matters.
        margin: largest difference in AUC that does not matter, for a study that is to show equivalence.
        pilot: table of scores of a pilot (reader, arm, case, truth, score), whose variance is assumed for the study.
    """

    common: ClassVar[tuple[str, ...]] = (
        "synthetic",
        "out",
        "raters",
        "real",
        "cases",
        "sessions",
        "washout_days",
        "repeats",
        "rubric",
        "window",
        "seed",
        "power",
        "difference",
        "margin",
        "pilot",
        "columns",
        "unit",
    )
    example: ClassVar[str] = (
        "medloom rate design --synthetic out/manifest.csv --real test.csv --raters anna,ben --rubric origin --out study"
    )

    synthetic: Path
    out: Path
    raters: tuple[str, ...]
    real: Path | None = None
    cases: int = limited(60, at_least=0)
    sessions: int | None = limited(None, at_least=1)
    washout_days: float = limited(14.0, at_least=0, at_most=3650)
    repeats: float = limited(0.1, at_least=0, at_most=0.3)
    rubric: str = limited("quality", words=RUBRICS)
    window: tuple[float, ...] = ()
    seed: int = 0
    power: float | None = limited(None, above=0, below=1)
    difference: float | None = None
    margin: float | None = None
    pilot: Path | None = None


def run(config: Config) -> Path:
    """Design; returns the folder.

    Raises:
        UserError: names of raters that are none, too few images, arms that lack a case, images whose form would tell
            which are real, or a folder that holds another study.
    """
    from dataclasses import asdict

    from medloom.core.files import atomic_folder, hash_file, read_mapping, write_json
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say
    from medloom.core.seeds import check_seed
    from medloom.data.manifest import load_manifest
    from medloom.data.units import joined_units
    from medloom.feedback.reader_study.blinded import form_of
    from medloom.feedback.reader_study.cases import REAL, arms_of, study_images
    from medloom.feedback.reader_study.packages import (
        KEY,
        PACKAGES,
        alike_twice,
        checked_raters,
        write_key,
        write_package,
    )
    from medloom.feedback.reader_study.schedule import schedule

    check_limits(config)
    check_seed(config.seed)
    raters = checked_raters(config.raters)
    if config.rubric == "origin" and config.real is None:
        raise UserError("--rubric origin asks whether images are real; give --real, a manifest of real images.")
    if (config.difference, config.margin, config.pilot) != (None, None, None) and config.power is None:
        raise UserError("--difference, --margin and --pilot belong to --power, which is missing.")
    manifests = [load_manifest(config.synthetic, config, ("path",))]
    if config.real is not None:
        manifests.append(load_manifest(config.real, config, ("path",)))
    unit = joined_units(config.unit, *(manifest.units for manifest in manifests))
    images = study_images(manifests[0], manifests[1] if config.real is not None else None, config.cases, config.seed)
    arms = arms_of(images)
    sessions = config.sessions or len(arms)
    readings = schedule(images, raters, sessions, config.repeats, config.seed)
    form = form_of(images, unit, config.window)

    design: dict[str, object] = {
        "schema": 1,
        "finished": False,
        "raters": raters,
        "rubric": config.rubric,
        "seed": config.seed,
        "sessions": sessions,
        "washout_days": config.washout_days,
        "repeats": config.repeats,
        "arms": [arm for arm in arms if arm],
        "images": len(images),
        "real": sum(image.source == REAL for image in images),
        "cases": len({(image.source, image.case) for image in images}),
        "readings_per_rater": len(readings) // len(raters),
        "form": asdict(form),
        "sources": {
            name: hash_file(path)
            for name, path in (("synthetic", config.synthetic), ("real", config.real))
            if path is not None
        },
    }
    table: list[str] = []
    if config.power is not None:
        table, design["power"] = _power(config, config.power, min(len(arms), 2))
    twice: list[str] = []
    with output_folder(config.out, DESIGN) as out:
        if (out / DESIGN).is_file() and {**read_mapping(out / DESIGN), "finished": False} != _as_json(design):
            raise UserError(f"--out {out} holds another study ({DESIGN} differs); name a new folder.")
        # First what the folder is, so that a design that was killed can be run again.
        write_json(out / DESIGN, design)
        write_key(out / KEY, images)
        for rater in raters:
            own = [reading for reading in readings if reading.rater == rater]
            with atomic_folder(out / PACKAGES / rater) as folder:
                write_package(folder, rater, own, form, washout=config.washout_days, rubric=config.rubric, unit=unit)
                twice = alike_twice(folder)
        write_json(out / DESIGN, {**design, "finished": True})
    if twice:
        say(f"{len(twice)} images have the same pixels as another one (as {twice[0]}); readers may notice.")
    for line in table:
        say(line)
    series = f"{sessions} session{'s' * (sessions > 1)}"
    each = f"{design['readings_per_rater']} readings each, in {series}"
    say(f"{len(raters)} raters read {len(images)} images ({design['real']} real): {each}.")
    say(f"to hand out: {config.out / PACKAGES}. Keep {config.out / KEY}: it says which images are synthetic.")
    return config.out


def _power(config: Config, wanted: float, arms: int) -> tuple[list[str], dict[str, object]]:
    """The power of studies of several sizes, in lines and as JSON values."""
    from dataclasses import asdict

    from medloom.feedback.reader_study.sample_size import in_words, power_table, smallest

    known = _assumptions(config.pilot, arms)
    rows, what = power_table(known, config.difference, config.margin)
    said = ", ".join(f"{readers} readers and {cases} cases" for readers, cases in smallest(rows, wanted))
    lines = [f"power {what}.", f"assumed: {known.words}", *in_words(rows, wanted)]
    lines.append(f"a power of {wanted:g} needs {said or 'more than the table has'}.")
    return lines, {
        "wanted": wanted,
        "of": what,
        "assumed": known.words,
        "components": asdict(known.components),
        "pilot_cases": known.cases,
        "table": [{"readers": readers, "power": powers} for readers, powers in rows],
    }


def _assumptions(pilot: Path | None, arms: int) -> "Assumptions":
    """Components of the variance, of a pilot or published ones.

    Raises:
        UserError: a pilot with another number of arms, or in which scores are missing.
    """
    from medloom.feedback.reader_study.sample_size import Assumptions, assumed
    from medloom.feedback.reader_study.scores import read_scores
    from medloom.metrics import multi_reader_analysis

    if pilot is None:
        return assumed(arms)
    scores = read_scores(pilot)
    if len(scores.arms) != arms:
        raise UserError(f"{pilot} has {len(scores.arms)} arms and the study {arms}; give a pilot of as many.")
    if scores.lacking:
        raise UserError(f"{pilot}: {scores.lacking}; a pilot needs all scores.")
    found = multi_reader_analysis(scores.truth, scores.values)
    words = f"variance components of {pilot.name}: {len(scores.readers)} readers, {len(scores.cases)} cases"
    return Assumptions(found.components, len(scores.cases), arms, words)


def _as_json(value: object) -> object:
    import json

    loaded: object = json.loads(json.dumps(value))
    return loaded
