"""Clinical tables as text: a template words each column, and states how a change of one column affects the others."""

from medloom.core.cells import Cell
from medloom.data.prompts.column import Column, Rule
from medloom.data.prompts.reading import (
    find_template,
    read_rows,
    read_template,
    template_values,
)
from medloom.data.prompts.template import Template

__all__ = [
    "Cell",
    "Column",
    "Rule",
    "Template",
    "find_template",
    "read_rows",
    "read_template",
    "template_values",
]
