"""The days between an editor's two images, which condition it as a column of the table."""

from dataclasses import replace
from typing import TypeVar

from medloom.core.cells import MISSING, NUMBER, spelled
from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.core.types import DAYS
from medloom.generators.base import AnyGenerator
from medloom.generators.options import GeneratorOptions
from medloom.generators.preparation import Prepared

Options = TypeVar("Options", bound=GeneratorOptions)


def with_days(options: Options, data: Prepared, known: AnyGenerator | None, verbose: bool) -> Options:
    """The options with the days between the two images in the table, where an editor can be conditioned on them.

    Args:
        options: of a training; `days` says whether that is wanted.
        data: the rows; their column `days`, where they have one.
        known: the generator of a run that is continued, or None.
        verbose: whether to say what the training rows have.

    Raises:
        UserError: a cell of the column is not a number, or --no-days with a run that is conditioned on them.
    """
    if known is not None and DAYS in [column.name for column in known.columns]:
        if not getattr(options, "days", True):
            raise UserError(
                f"--no-{DAYS}: the run of --from is conditioned on the days between the two images; leave it out, or"
                " continue a run that is not."
            )
        return options
    wanted = getattr(options, "days", False) and "prior" in options.columns_needed and DAYS not in options.table
    samples = data.train.samples
    if not wanted or not all(DAYS in sample.condition.table for sample in samples):
        return options
    found: set[float] = set()
    for sample in samples:
        text = spelled(sample.condition.table[DAYS])
        if text.casefold() in MISSING:
            continue
        if not NUMBER.fullmatch(text):
            raise UserError(
                f"{options.data}, line {sample.line}, column {DAYS!r}: {text!r} is not a number of days between the two"
                f" images; correct it, or leave the column out of the conditions with --no-{DAYS}."
            )
        found.add(float(text))
    reason = ""
    if len(found) < 2:
        had = f"{spelled(found.pop())} in every training row" if found else "unknown in every training row"
        reason = f"they are {had}"
    elif not _takes_columns(options, known):
        reason = "this network takes no columns of a table"
    if reason:
        if verbose:
            say(f"{options.data}: the days between the two images do not condition the editor: {reason}.")
        return options
    if verbose:
        seen = f"{spelled(min(found))} to {spelled(max(found))}"
        say(f"{options.data}: the editor is conditioned on the days between the two images too ({seen}; --no-{DAYS}).")
    return replace(options, table=(*options.table, DAYS))


def _takes_columns(options: GeneratorOptions, known: AnyGenerator | None) -> bool:
    """Whether columns of a table can reach the network; see the support table."""
    if known is not None:
        return known.takes_text and not known.exportable
    network = getattr(options, "network", None)
    own = not getattr(network, "exportable", False) and getattr(options, "base", None) is None
    return own and getattr(network, "fusion", "none") != "none"
