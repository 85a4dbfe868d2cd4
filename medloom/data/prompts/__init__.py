"""Clinical tables as text: a template says how each column is worded, and what a change of one means for the others."""

from medloom.core.cells import Cell
from medloom.data.prompts.column import Column, Rule
from medloom.data.prompts.reading import find_template, read_template, template_beside, template_path, template_values
from medloom.data.prompts.rows import read_rows
from medloom.data.prompts.template import Template

__all__ = [
    "Cell",
    "Column",
    "Rule",
    "Template",
    "find_template",
    "read_rows",
    "read_template",
    "template_beside",
    "template_path",
    "template_values",
]
