"""`medloom data prompts`: a clinical table becomes a manifest with a text for each row."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml
from rich.console import Console
from rich.table import Table as RichTable

from medloom.core.cells import MISSING
from medloom.core.errors import UserError
from medloom.core.files import write_text
from medloom.core.output_folder import output_files
from medloom.core.progress import say
from medloom.data.columns import PATH_COLUMNS, standard_names
from medloom.data.manifest import ManifestOptions, list_problems, template_path
from medloom.data.prompts import find_template, read_rows, read_template
from medloom.data.prompts.reading import READY, fitted_values, template_of_values, template_values
from medloom.data.prompts.template import Template
from medloom.data.tables import Problem, Table, read_table, write_csv

TEXT = "Text"
PREVIEWED = 10


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Write a text for each row of a clinical table, as a template words it.

    Columns are recognised whatever their capital letters, blanks, hyphens and underscores; a ready template is used
    without the columns that the table lacks.

    Attributes:
        data: the table: CSV, TSV, JSONL, Parquet or XLSX.
        template: YAML file, or the name of a ready template (aiib23, covid-cxr, ild, phantom, phantom-findings).
        out: CSV file for the table's columns and `Text`; the template is copied next to it.
        sheet: sheet of an XLSX file, by name; the first one by default.
        preview: print ten texts and write nothing.
        replace: write the texts instead of the table's text column.
    """

    common: ClassVar[tuple[str, ...]] = ("out", "preview", "replace", "sheet", "skip_bad", "columns")
    example: ClassVar[str] = "medloom data prompts clinic.xlsx --template mine.yaml --out manifest.csv"

    data: Path
    template: str
    out: Path | None = None
    sheet: str | None = None
    preview: bool = False
    replace: bool = False


def run(config: Config) -> Path | None:
    """Word the table; returns the manifest's path, or None after a preview.

    Raises:
        UserError: a template or table that cannot be used, rows that the template cannot word, or --out that is
            something else.
    """

    source = find_template(config.template)
    table = read_table(config.data, config.sheet)
    template, text_of_template = _fitted(config, source, table)
    out = None if config.preview else _checked_out(config)
    found = standard_names(table.header, config.columns, str(config.data))
    if "text" in found and not (config.replace or config.preview):
        raise UserError(
            f"{config.data} has texts already, in column {found['text']!r}; --replace writes the new ones in their"
            " place."
        )
    if "text" in found and found["text"] != TEXT and TEXT in table.header:
        raise UserError(f"{config.data}: column {found['text']!r} cannot become {TEXT!r}, which is there already.")

    rows, problems = read_rows(table, template, str(config.data))
    texts = {line: template.render(row) for line, row in rows.items()}
    silent = [line for line, text in texts.items() if not text]
    empty = (
        "nothing is known, so that the text is empty; give the template a `start` or what to say where it is missing"
    )
    problems += [Problem(line, empty) for line in silent]
    problems.sort(key=lambda problem: problem.line)
    total = len(table.rows) + len(table.problems)
    if problems and (not config.skip_bad or len(silent) == len(texts)):
        raise UserError(list_problems(str(config.data), problems, total))
    if problems:
        say(f"{config.data}: {len(problems)} bad rows were left out (--skip-bad), {total - len(problems)} are used.")
    texts = {line: text for line, text in texts.items() if text}

    missing = RichTable("column", "missing", "of", "unit", title="what the texts say", title_justify="left")
    for name, column in template.columns.items():
        missing.add_row(name, str(sum(rows[line][name] is None for line in texts)), str(len(texts)), column.unit)
    Console(highlight=False).print(missing)
    if out is None:
        for line in list(texts)[:PREVIEWED]:
            print(f"line {line}: {texts[line]}")
        return None
    with output_files(out, template_path(out)):
        # First what says that this command writes the manifest, so that it may be killed.
        write_text(template_path(out), text_of_template)
        write_csv(out, *_worded(config.data.parent, out.parent, table, found, texts))
    say(f"{len(texts)} rows with {len(set(texts.values()))} different texts: {out} and {template_path(out)}")
    return out


def _fitted(config: Config, source: Path, table: Table) -> tuple[Template, str]:
    """The template for a table, and its text: a built-in one without the columns that the table lacks.

    Columns are recognised whatever their capital letters, blanks, hyphens and underscores are, and get the template's
    names.

    Raises:
        UserError: a template that cannot be read; one of the user's own of which a column is absent; no column at all.
    """
    text = source.read_text(encoding="utf-8")
    template = read_template(source)
    plain = {re.sub(r"[^a-z0-9]", "", name.casefold()): name for name in template.columns}
    for place, name in enumerate(table.header):
        known = plain.get(re.sub(r"[^a-z0-9]", "", name.casefold()))
        if known is not None and known != name and known not in table.header:
            say(f"{config.data}: column {name!r} is taken for the template's {known!r}.")
            table.header[place] = known
    if source.parent != READY:
        return template, text
    values, absent = fitted_values(template_values(source), table.header)
    if not absent:
        return template, text
    if not values["columns"]:
        raise UserError(f"{config.data} has none of the columns of {config.template}: {', '.join(template.columns)}.")
    say(f"{config.data} lacks {', '.join(map(repr, absent))} of the template {config.template}, which is used without.")
    return template_of_values(values), yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _checked_out(config: Config) -> Path:
    """Where the manifest goes: a new file, or one that this command has written before."""
    out = config.out
    if out is None:
        raise UserError("say where the manifest goes with --out, or look at ten texts with --preview.")
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out {out}: the manifest is written as CSV; give a name that ends in .csv.")
    if out.resolve() == config.data.resolve():
        raise UserError(f"--out {out} is the table itself; give another name.")
    if out.exists() and not (out.is_file() and template_path(out).is_file()):
        raise UserError(f"--out {out} already exists and was not written by this command; give another name.")
    return out


def _worded(
    source: Path, target: Path, table: Table, found: Mapping[str, str], texts: Mapping[int, str]
) -> tuple[list[str], list[list[object]]]:
    """Header and rows of the manifest; paths are made relative to its folder."""
    header = [TEXT if name == found.get("text") else name for name in table.header]
    header = header if TEXT in header else [*header, TEXT]
    pathlike = [found[name] for name in PATH_COLUMNS if name in found]
    rows: list[list[object]] = []
    for line, cells in zip(table.lines, table.rows, strict=True):
        if line in texts:
            row = dict(zip(table.header, cells, strict=True))
            for column in pathlike:
                cell = str(row[column] or "").strip()
                if cell.casefold() not in MISSING and not Path(cell).is_absolute():
                    row[column] = Path(os.path.relpath(source / cell, target)).as_posix()
            row[found.get("text", TEXT)] = texts[line]
            rows.append(list(row.values()))
    return header, rows
