"""Rows of a table as a template understands them."""

from medloom.core.cells import Cell
from medloom.core.errors import UserError
from medloom.data.prompts.template import Template
from medloom.data.tables import Problem, Table


def read_rows(table: Table, template: Template, where: str) -> tuple[dict[int, dict[str, Cell]], list[Problem]]:
    """The template's columns of each row, by the row's line in the file; and the rows that cannot be told.

    Cells are taken from the table itself: a manifest reads the word `none` as a missing value, and a template may
    know it as a value.

    Args:
        table: as read from a file.
        template: what is told.
        where: the file, for errors.

    Raises:
        UserError: the table lacks a column of the template.
    """
    template.check_columns(table.header, where)
    rows: dict[int, dict[str, Cell]] = {}
    problems = list(table.problems)
    for line, cells in zip(table.lines, table.rows, strict=True):
        try:
            rows[line] = template.row(dict(zip(table.header, cells, strict=True)))
        except UserError as error:
            problems.append(Problem(line, str(error)))
    return rows, sorted(problems, key=lambda problem: problem.line)
