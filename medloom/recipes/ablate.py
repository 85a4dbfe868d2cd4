"""`medloom ablate`: a chain of commands over a grid of options, one table of the metrics out."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.recipes.commands import commands, run_command

DESCRIPTION, TABLE, PAGE = "ablation.json", "ablation.csv", "ablation.md"
KEYS = ("steps", "grid", "cells")
HEADER = ("cell", "metric", "subset", "value", "low", "high", "n", "counted", "reference", "reference_value")
SCORES = "scores.json"
EARLIER = re.compile(r"\{([a-z0-9 ]+)\}")

Overrides = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Run a chain of commands, e.g. train, generate, evaluate, once for each cell of a grid.

    Attributes:
        grid: YAML file with `steps` (a list of {run: COMMAND, options: {...}}, in which "{COMMAND}" stands for the
            folder of an earlier step) and `grid` ("COMMAND.option" to a list of values: every combination is a cell) or
            `cells` (name to {"COMMAND.option": value}).
        out: folder for ablation.csv, ablation.md, and a folder for each step with other options; steps that cells share
            are run once, and the same command run again resumes.
    """

    example: ClassVar[str] = "medloom ablate --grid grid.yaml --out ablation/"

    grid: Path
    out: Path


@dataclass(frozen=True)
class GridStep:
    """One command of the chain."""

    command: str
    options: Mapping[str, object]


def run(config: Config) -> Path:
    """Run every cell; returns the path of ablation.csv.

    Raises:
        UserError: a file that is no such grid, an option that a command does not have, or what a command refuses.
    """
    from medloom.core.files import hash_file, write_json
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say

    steps, cells = read_grid(config.grid)
    with output_folder(config.out, DESCRIPTION) as out:
        write_json(
            out / DESCRIPTION, {"grid": hash_file(config.grid), "cells": {name: dict(c) for name, c in cells.items()}}
        )
        rows: list[list[object]] = []
        for number, (name, overrides) in enumerate(cells.items(), 1):
            say(f"{number}/{len(cells)}  {name}")
            rows += [[name, *row] for row in _metrics(_run_cell(steps, overrides, out))]
        _write(out, rows, list(cells))
        say(f"{len(cells)} cells: {out / PAGE} for people, {out / TABLE} for programs.")
        return out / TABLE


def read_grid(path: Path) -> tuple[list[GridStep], dict[str, Overrides]]:
    """The steps of a grid file, and its cells.

    Raises:
        UserError: says what is wrong in which file, and what is allowed.
    """
    import yaml

    if not path.is_file():
        raise UserError(f"--grid {path}: no such file; give a YAML file with {', '.join(KEYS)}.")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(given, Mapping) or not isinstance(given.get("steps"), list) or not given["steps"]:
        raise UserError(f"{path}: give `steps`, a list of {{run: COMMAND, options: {{...}}}}, and `grid` or `cells`.")
    for name in given:
        look_up(dict.fromkeys(KEYS), str(name), f"{path}: key")
    steps = [_step(path, entry) for entry in given["steps"]]
    cells = _cells(path, given)
    known = {step.command: step for step in steps}
    for key in {key: None for overrides in cells.values() for key in overrides}:
        command, _, option = key.partition(".")
        look_up(known, command, f"{path}: command of {key!r}")
        if not option or option == "out":
            raise UserError(f"{path}: {key!r} names no option; write COMMAND.option, e.g. 'train edit.unregistered'.")
    return steps, cells


def _step(path: Path, entry: object) -> GridStep:
    if not isinstance(entry, Mapping) or set(entry) - {"run", "options"} or "run" not in entry:
        raise UserError(f"{path}: a step is {{run: COMMAND, options: {{...}}}}, not {entry!r}.")
    command, options = str(entry["run"]), entry.get("options") or {}
    look_up(commands(), command, f"{path}: command")
    if not isinstance(options, Mapping) or "out" in options:
        raise UserError(f"{path}: options of {command} are a mapping, without out: every step has a folder of its own.")
    return GridStep(command, {str(name): value for name, value in options.items()})


def _cells(path: Path, given: Mapping[str, object]) -> dict[str, Overrides]:
    """Named cells, or every combination of a grid, named by its values."""
    if ("grid" in given) == ("cells" in given):
        raise UserError(f"{path}: give either `grid` or `cells`.")
    if "cells" in given:
        cells = given["cells"]
        if not isinstance(cells, Mapping) or not cells:
            raise UserError(f"{path}: `cells` is a mapping of names to options.")
        return {str(name): dict(options or {}) for name, options in cells.items()}
    grid = given["grid"]
    if not isinstance(grid, Mapping) or not grid or not all(isinstance(v, list) and v for v in grid.values()):
        raise UserError(f"{path}: `grid` is a mapping of COMMAND.option to a list of values.")
    named: dict[str, Overrides] = {}
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(map(str, grid), values, strict=True))
        named[", ".join(f"{key.partition('.')[2]}={value}" for key, value in chosen.items())] = chosen
    return named


def _run_cell(steps: Sequence[GridStep], overrides: Overrides, out: Path) -> Path:
    """Run the steps of a cell; returns the folder of the last one."""
    from medloom.core.files import hash_json

    folders: dict[str, Path] = {}
    for step in steps:
        own = {
            key.partition(".")[2]: value for key, value in overrides.items() if key.partition(".")[0] == step.command
        }
        options = {name: _resolved(value, folders) for name, value in {**step.options, **own}.items()}
        # Two cells that ask for the same share a folder; so does the same command run again.
        folder = out / f"{step.command.replace(' ', '-')}-{hash_json([step.command, options])[:10]}"
        run_command(step.command, **options, out=folder)
        folders[step.command] = folder
    return folders[steps[-1].command]


def _resolved(value: object, folders: Mapping[str, Path]) -> object:
    """A value with the folders of earlier steps instead of their names."""
    if isinstance(value, list):
        return [_resolved(entry, folders) for entry in value]
    if not isinstance(value, str):
        return value
    return EARLIER.sub(lambda match: str(look_up(folders, match[1], "earlier step")), value)


def _metrics(folder: Path) -> list[list[object]]:
    """The metrics of an evaluation, as rows of the table.

    Raises:
        UserError: the last step wrote none.
    """
    from medloom.core.files import explained_content, read_mapping

    path = folder / SCORES
    if not path.is_file():
        raise UserError(f"{folder} holds no {SCORES}: the last step of a grid has to be an evaluation.")
    rows = []
    with explained_content(path):
        for metric in read_mapping(path)["metrics"]:
            reference = metric["reference"]
            values = [metric[name] for name in ("name", "subset", "value", "low", "high", "n", "counted")]
            rows.append([*values, reference["what"], reference["value"]])
    return rows


def _write(out: Path, rows: Sequence[Sequence[Any]], cells: Sequence[str]) -> None:
    """The table for programs, a metric a row; and for people, a cell a column."""
    from medloom.core.files import write_text
    from medloom.data.tables import write_csv

    write_csv(out / TABLE, HEADER, rows)
    by_metric: dict[tuple[str, str], dict[str, str]] = {}
    for cell, metric, subset, value, low, high, *_ in rows:
        ends = "" if low is None else f" ({low:.3g} to {high:.3g})"
        by_metric.setdefault((metric, subset), {})[cell] = f"{value:.3g}{ends}"
    lines = [f"| metric | of | {' | '.join(cells)} |", "|---" * (2 + len(cells)) + "|"]
    for (metric, subset), found in by_metric.items():
        lines.append(f"| {metric} | {subset} | {' | '.join(found.get(cell, '') for cell in cells)} |")
    write_text(out / PAGE, "\n".join(lines) + "\n")
