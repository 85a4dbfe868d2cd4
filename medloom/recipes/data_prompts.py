"""`medloom data prompts`: a clinical table becomes a manifest with a text for each row."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table as RichTable

from medloom.core.cells import MISSING
from medloom.core.errors import UserError
from medloom.core.files import write_text
from medloom.core.progress import say
from medloom.data.columns import PATH_COLUMNS, standard_names
from medloom.data.manifest import ManifestOptions, list_problems, template_path
from medloom.data.prompts import find_template, read_rows, read_template
from medloom.data.tables import Problem, Table, read_table, write_csv

TEXT = "Text"
PREVIEWED = 10


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Write a text for each row of a clinical table, as a template words it.

    Attributes:
        data: the table: CSV, TSV, JSONL, Parquet or XLSX.
        template: YAML file, or the name of a ready template (covid-cxr, ild, phantom, phantom-findings).
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
    template = read_template(source)
    table = read_table(config.data, config.sheet)
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
    write_csv(out, *_worded(config.data.parent, out.parent, table, found, texts))
    write_text(template_path(out), source.read_text(encoding="utf-8"))
    say(f"{len(texts)} rows with {len(set(texts.values()))} different texts: {out} and {template_path(out)}")
    return out


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
