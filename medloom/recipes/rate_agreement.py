"""`medloom rate agreement`: how far raters agree with each other and with themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited

REPORT, HTML = "report.json", "report.html"
HEADLINE = "Gwet's AC2, quadratic"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measure the agreement of raters.

    Attributes:
        ratings: table of ratings, as `medloom rate export` writes it.
        store: the store of ratings itself, instead of a table.
        key: key.csv of `medloom rate design`, which says which of the rated images are real.
        out: folder of report.html and report.json.
        seed: of all resamples.
        resamples: number of resamples of each interval.
    """

    common: ClassVar[tuple[str, ...]] = ("ratings", "store", "key", "out", "seed", "resamples")
    example: ClassVar[str] = "medloom rate agreement --ratings ratings.csv --out agreement"

    ratings: Path | None = None
    store: Path | None = None
    key: Path | None = None
    out: Path
    seed: int = 0
    resamples: int = limited(1000, at_least=20, at_most=100_000)


def run(config: Config) -> Path:
    """Measure; returns the folder of the report.

    Raises:
        UserError: neither a table nor a store or both, a table that cannot be read, a rating off its scale, two raters
            of one name, or ratings in which nothing can be compared.
    """
    from medloom.core.files import write_json, write_text
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say
    from medloom.core.seeds import check_seed
    from medloom.feedback.agreement.measure import measure_agreement
    from medloom.feedback.agreement.origin import POOLED, measure_origin
    from medloom.feedback.agreement.page import agreement_page
    from medloom.feedback.agreement.table import ratings_of_store, read_ratings
    from medloom.feedback.key import with_key

    check_limits(config)
    check_seed(config.seed)
    if config.ratings is not None and config.store is not None:
        raise UserError("give --ratings or --store, not both.")
    if config.ratings is not None:
        ratings = read_ratings(config.ratings)
    elif config.store is not None:
        ratings = ratings_of_store(config.store)
    else:
        raise UserError("give --ratings, a table of `medloom rate export`, or --store, the store itself.")
    if config.key is not None:
        ratings = with_key(ratings, config.key)
    found = measure_agreement(ratings, config.seed, config.resamples)
    origin = measure_origin(ratings, config.seed, config.resamples)
    with output_folder(config.out, REPORT) as out:
        write_text(out / HTML, agreement_page(found, origin, ratings))
        sections = ("between", "single", "within", "levels", "times", "flags")
        values: dict[str, object] = {name: [row.to_dict() for row in getattr(found, name)] for name in sections}
        values |= {"counts": found.counts, "notes": found.notes, "seed": config.seed, "resamples": config.resamples}
        if origin is not None:
            values["origin"] = {
                "score": origin.score,
                "areas": [row.to_dict() for row in origin.areas],
                "confusion": [row.to_dict() for row in origin.confusion],
                "notes": origin.notes,
            }
        write_json(out / REPORT, values)

    counts = found.counts
    say(f"{counts['ratings']} ratings of {counts['items']} images by {counts['raters']} raters.")
    for row in found.between:
        if row.name in (HEADLINE, "percent agreement"):
            say(f"{row.item}: {row.name} {row.shown}{f' ({row.note})' if row.note else ''}.")
    for row in origin.areas if origin else ():
        if row.of == POOLED:
            say(f"real or synthetic: AUC {row.shown}, {row.of}; 0.5 means that they cannot tell.")
    for note in found.notes:
        say(note)
    say(f"report: {config.out / HTML} for people, {config.out / REPORT} for programs.")
    return config.out
