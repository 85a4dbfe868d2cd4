"""`medloom rate analyse`: a multi-reader study, for other readers and other cases."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited

REPORT, HTML = "report.json", "report.html"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Analyse a reader study.

    Attributes:
        scores: table with columns reader, case, truth, score, and arm where there is more than one; readers may be
            persons, or classifiers that were trained with several seeds.
        ratings: table of ratings of real and synthetic images, as `medloom rate export` writes it; with key.
        store: the store of ratings itself, instead of a table; with key.
        key: key.csv of `medloom rate design`, which says what the rated images are.
        out: folder of report.html and report.json.
        merit: auc, accuracy, sensitivity or specificity.
        threshold: from which a score is a positive finding; for all merits but auc.
        margin: largest difference that does not matter; tests equivalence. Fix it before the readings.
        reference: what one arm is compared with.
        fixed_readers: the result is to hold for these readers only, and for other cases.
        covariance: how covariances are estimated: jackknife, or delong for auc.
        seed: of the bootstrap.
        resamples: number of resamples of the bootstrap.
    """

    common: ClassVar[tuple[str, ...]] = (
        "scores",
        "ratings",
        "store",
        "key",
        "out",
        "merit",
        "threshold",
        "margin",
        "reference",
        "fixed_readers",
        "seed",
    )
    example: ClassVar[str] = "medloom rate analyse --ratings ratings.csv --key study/key.csv --margin 0.1 --out results"

    scores: Path | None = None
    ratings: Path | None = None
    store: Path | None = None
    key: Path | None = None
    out: Path
    merit: str = limited("auc", words=("auc", "accuracy", "sensitivity", "specificity"))
    threshold: float | None = None
    margin: float | None = limited(None, above=0)
    reference: float = limited(0.5, at_least=0, at_most=1)
    fixed_readers: bool = False
    covariance: str = limited("jackknife", words=("jackknife", "delong"))
    seed: int = 0
    resamples: int = limited(1000, at_least=20, at_most=100_000)


def run(config: Config) -> Path:
    """Analyse; returns the folder of the report.

    Raises:
        UserError: no scores or two kinds of them, a table that cannot be read, or a study that cannot be analysed.
    """
    from medloom.core.files import write_json, write_text
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say
    from medloom.core.seeds import check_seed
    from medloom.feedback.reader_study.analysis import Question, analyse
    from medloom.feedback.reader_study.page import study_page
    from medloom.feedback.reader_study.scores import read_scores, scores_of_ratings

    check_limits(config)
    check_seed(config.seed)
    rated = config.ratings is not None or config.store is not None
    if (config.scores is not None) is rated:
        raise UserError("give --scores, a table of scores, or --ratings (or --store) with --key; one of them.")
    if rated and config.key is None:
        raise UserError("--ratings needs --key, the key.csv of the study, which says what the rated images are.")
    if config.key is not None and not rated:
        raise UserError("--key belongs to --ratings; a table of --scores has the truth itself.")
    if config.scores is not None:
        scores = read_scores(config.scores)
    else:
        scores = scores_of_ratings(config.ratings, config.store, Path(str(config.key)))
    analysis = analyse(
        scores,
        Question(
            config.merit,
            config.threshold,
            config.reference,
            config.margin,
            config.fixed_readers,
            config.covariance,
            config.seed,
            config.resamples,
        ),
    )
    with output_folder(config.out, REPORT) as out:
        write_text(out / HTML, study_page(analysis))
        write_json(out / REPORT, analysis.to_dict())
    for note in analysis.notes:
        say(note)
    say(analysis.sentence)
    say(f"report: {config.out / HTML} for people, {config.out / REPORT} for programs.")
    return config.out
