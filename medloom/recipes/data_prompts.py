"""`medloom data prompts`: a clinical table becomes a manifest with a text for each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.cells import MISSING
from medloom.core.errors import UserError
from medloom.core.files import write_text
from medloom.core.progress import say
from medloom.data.columns import PATH_COLUMNS, standard_names
from medloom.data.manifest import ManifestOptions, list_problems
from medloom.data.prompts import Cell, Template, find_template, read_rows, read_template, template_path
from medloom.data.tables import Problem, Table, read_table, write_csv

TEXT = "Text"
PREVIEWED = 10

# Line in the file -> what the template knows of the row.
Rows = Mapping[int, Mapping[str, "Cell"]]


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
    found = _checked_columns(config, table)
    rows, texts = _texts_of(config, table, template)
    _print_missing(template, rows)
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


def _checked_columns(config: Config, table: Table) -> dict[str, str]:
    """The table's standard columns.

    Raises:
        UserError: it has texts already, and they are not to be replaced.
    """

    found = standard_names(table.header, config.columns, str(config.data))
    if "text" in found and not (config.replace or config.preview):
        raise UserError(
            f"{config.data} has texts already, in column {found['text']!r}; --replace writes the new ones in their"
            " place."
        )
    if "text" in found and found["text"] != TEXT and TEXT in table.header:
        raise UserError(f"{config.data}: column {found['text']!r} cannot become {TEXT!r}, which is there already.")
    return found


def _texts_of(config: Config, table: Table, template: Template) -> tuple[Rows, dict[int, str]]:
    """The rows that are used and their texts, by line.

    Raises:
        UserError: rows that the template cannot word, unless they are to be skipped.
    """

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
    used = {line: row for line, row in rows.items() if texts[line]}
    return used, {line: texts[line] for line in used}


def _worded(
    source: Path, target: Path, table: Table, found: Mapping[str, str], texts: Mapping[int, str]
) -> tuple[list[str], list[list[object]]]:
    """Header and rows of the manifest; paths are made relative to its folder."""
    header = [TEXT if name == found.get("text") else name for name in table.header]
    header = header if TEXT in header else [*header, TEXT]
    rows: list[list[object]] = []
    for line, cells in zip(table.lines, table.rows, strict=True):
        if line in texts:
            row = dict(zip(table.header, cells, strict=True)) | _paths(source, target, table, found, cells)
            row[found.get("text", TEXT)] = texts[line]
            rows.append(list(row.values()))
    return header, rows


def _paths(
    source: Path, target: Path, table: Table, found: Mapping[str, str], cells: Sequence[object]
) -> dict[str, str]:
    import os

    moved: dict[str, str] = {}
    for column in (found[name] for name in PATH_COLUMNS if name in found):
        cell = str(cells[table.header.index(column)] or "").strip()
        if cell.casefold() not in MISSING and not Path(cell).is_absolute():
            moved[column] = Path(os.path.relpath(source / cell, target)).as_posix()
    return moved


def _print_missing(template: Template, rows: Rows) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("column", "missing", "of", "unit", title="what the texts say", title_justify="left")
    for name, column in template.columns.items():
        missing = sum(row[name] is None for row in rows.values())
        table.add_row(name, str(missing), str(len(rows)), column.unit)
    Console(highlight=False).print(table)
