"""Measures the columns of a training table that condition a model directly, as numbers and categories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev

from medloom.core.cells import MISSING, NUMBER, Cell, are_codes, capped_age, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.table_column import TableColumn, read_number
from medloom.core.types import Sample
from medloom.data.identifying_columns import may_identify, refuse_identifying
from medloom.data.prompts.column import Column
from medloom.data.prompts.identity import is_age, is_date, names_identity
from medloom.data.prompts.reading import AGE_CAP, read_rows
from medloom.data.prompts.template import Template
from medloom.data.tables import read_table

MOST_CATEGORIES = 100


def measure_columns(
    names: Sequence[str], samples: Sequence[Sample], template: Template | None, where: str
) -> tuple[TableColumn, ...]:
    """The columns that condition a model, as measured on the training rows.

    A column is numeric if all its known cells are numbers, unless its template has a value map. Sentinels and caps are
    the template's; ages are capped at 89 by default.

    Args:
        names: clinical columns of the table.
        samples: the training rows.
        template: the meaning of the columns; None takes their cells as they are.
        where: the table, for messages.

    Raises:
        UserError: a column that is missing, repeated or constant, identifies patients, or holds dates or free text.
    """
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(f"--table names {twice[0]!r} twice; leave one out.")
    clinical = {name: name for sample in samples[:1] for name in sample.condition.table}
    found: list[TableColumn] = []
    for name in names:
        look_up(clinical, name, f"--table: clinical column of {where}")
        column = template.columns.get(name) if template is not None else None
        if column is None:
            if what := names_identity(name):
                raise UserError(f"--table {name}: it is {what} by its name, and must not reach a model; leave it out.")
            column = Column(name, cap=AGE_CAP if is_age(name) else None)
        for sample in samples if not column.allowed else ():
            if is_date(text := spelled(sample.condition.table[name])):
                raise UserError(
                    f"{where}, line {sample.line}: column {name!r}: {text!r} looks like a date; leave the column out."
                )
        cells = _known([(spelled(sample.condition.table[name]), sample) for sample in samples], column)
        known = [text for text, _ in cells]
        distinct, sentinels = sorted(set(known)), tuple(sorted(column.sentinels))
        if len(distinct) < 2:
            held = f"only {distinct[0]!r}" if distinct else "nothing"
            raise UserError(
                f"--table {name}: {where} has {held} in it for training, and a model cannot learn from that."
            )
        if column.values is None and _numbers(name, distinct, column):
            found.append(_number(name, known, _cap(name, column), sentinels))
            continue
        if column.is_number:
            wrong = next(text for text in distinct if not NUMBER.fullmatch(text))
            raise UserError(
                f"--table {name}: {where} has {wrong!r} among its numbers; correct it, or make it a sentinel."
            )
        if not _vouched(column):
            refuse_identifying(name, cells, where)
        if len(distinct) > MOST_CATEGORIES:
            raise UserError(
                f"--table {name}: {len(distinct)} different texts are not categories (at most {MOST_CATEGORIES}); put"
                " them into the text by a template."
            )
        found.append(TableColumn(name, tuple(distinct), sentinels=sentinels))
    return tuple(found)


def _vouched(column: Column) -> bool:
    """Whether a template lists a column under `allow`, or its values one by one."""
    return column.allowed or column.values is not None


def worded_columns(samples: Sequence[Sample], template: Template, source: Path) -> tuple[TableColumn, ...]:
    """What the texts of training rows say of a template's columns: categories, and ranges of numbers.

    A row counts if its wording by the template is the text of any training row. Columns that are not worded, are empty
    or free text, or may identify patients, are left out.

    Args:
        samples: the training rows.
        template: of the texts, perhaps.
        source: the table of the rows, whose own cells are read: a manifest takes `none` for missing.
    """
    table = read_table(source)
    if any(name not in table.header for name in template.columns):
        return ()
    cells, _ = read_rows(table, template, str(source))
    texts = {sample.condition.text for sample in samples}
    rows = [(cells[sample.line], sample) for sample in samples if sample.line in cells]
    return _seen([(row, sample) for row, sample in rows if template.render(row) in texts], template)


def _seen(rows: Sequence[tuple[Mapping[str, Cell], Sample]], template: Template) -> tuple[TableColumn, ...]:
    """The worded columns of some rows, as the template reads them."""
    found: list[TableColumn] = []
    for name, column in template.columns.items():
        if not any(column.phrase(row[name]) for row, _ in rows):
            continue
        cells = _known([(spelled(row[name]), sample) for row, sample in rows], column)
        known = [text for text, _ in cells]
        distinct = sorted(set(known))
        if column.values is None and distinct and _numbers(name, distinct, column):
            found.append(_number(name, known, _cap(name, column), tuple(sorted(column.sentinels))))
        elif 0 < len(distinct) <= MOST_CATEGORIES and (_vouched(column) or not may_identify(cells)):
            found.append(TableColumn(name, tuple(distinct), sentinels=tuple(sorted(column.sentinels))))
    return tuple(found)


def _known(cells: Sequence[tuple[str, Sample]], column: Column) -> list[tuple[str, Sample]]:
    """The cells that are not missing. A manifest has already removed `none` where it means missing."""
    words = {spelled(key) for key in column.values or ()}
    missing = (MISSING - {"none"}) | column.sentinels
    return [
        (text, sample)
        for text, sample in cells
        if text in words or (text.casefold() not in missing and text not in missing)
    ]


def _cap(name: str, column: Column) -> float | None:
    return column.cap if column.cap is not None or not is_age(name) else AGE_CAP


def _numbers(name: str, distinct: Sequence[str], column: Column) -> bool:
    """Whether all texts are numbers or ages above the cap."""
    cap = _cap(name, column)
    if not column.is_number and are_codes(distinct):
        return False
    return all(NUMBER.fullmatch(text) or capped_age(text, cap) is not None for text in distinct)


def _number(name: str, known: Sequence[str], cap: float | None, sentinels: tuple[str, ...]) -> TableColumn:
    values = [read_number(name, text, cap) for text in known]
    return TableColumn(
        name,
        mean=fmean(values),
        std=pstdev(values) or 1.0,
        low=min(values),
        high=max(values),
        cap=cap,
        sentinels=sentinels,
    )
