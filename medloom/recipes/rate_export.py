"""`medloom rate export`: the ratings of a store as a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.output_folder import output_files
from medloom.core.progress import say


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write the ratings of a store as a manifest with a row for each rating.

    The last rating of an image counts; ratings that were undone and those of a practice are left out. Comparisons of
    two images go to a second table next to it, NAME-pairs.csv. A studio may serve the store meanwhile.

    Attributes:
        store: ratings.db of `medloom studio --rate`.
        out: the table, CSV; paths of images are relative to its folder.
    """

    common: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = "medloom rate export --store ratings.db --out ratings.csv"

    store: Path
    out: Path


def run(config: Config) -> Path:
    """Export; returns the table.

    Raises:
        UserError: no such store, or --out is no CSV file or the store itself.
    """
    from medloom.feedback.ratings.export import pairs_path, read_ratings

    if config.out.suffix.lower() != ".csv":
        raise UserError(f"--out {config.out}: name a table that ends in .csv.")
    if config.out.is_dir() or config.out.resolve() == config.store.resolve():
        raise UserError(f"--out {config.out} is a folder or the store itself; name another file.")
    singles, pairs = read_ratings(config.store)
    second = pairs_path(config.out)
    with output_files(config.out, second):
        singles.write(config.out)
        if pairs.rows:
            pairs.write(second)
        else:
            # That of an export before, which the store no longer says.
            second.unlink(missing_ok=True)
    raters = {row["rater"] for row in (*singles.rows, *pairs.rows)}
    say(f"{len(singles.rows)} ratings of {len(raters)} raters in {config.out}")
    if pairs.rows:
        say(f"{len(pairs.rows)} comparisons in {second}")
    return config.out
