"""Reads templates from YAML files, and the rows of a table by a template.

Every key is checked; columns that could identify a patient are refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medloom.core.cells import MISSING, NUMBER, Cell, Code, are_codes, spelled
from medloom.core.errors import UserError
from medloom.core.files import read_yaml_text
from medloom.core.lookup import did_you_mean
from medloom.data.prompts.bounds import read_bound
from medloom.data.prompts.column import SLOT, Column, Rule
from medloom.data.prompts.identity import is_age, names_identity
from medloom.data.prompts.template import Template
from medloom.data.tables import Problem, Table

READY = Path(__file__).resolve().parents[1] / "templates"
AGE_CAP = 89.0
OMIT = "omit"
TEMPLATE_KEYS = ("columns", "join", "start", "end", "bounds", "allow")
COLUMN_KEYS = (
    *("say", "values", "unit", "cap", "bands", "missing", "sentinels"),
    *("relative_days", "parents", "follows", "outcome"),
)
RULE_KEYS = ("when", "was", "value", "unknown")


def find_template(name: str | Path) -> Path:
    """The file of a template, given as a path or as the name of a built-in template.

    Raises:
        UserError: neither; names the closest built-in template.
    """
    if Path(name).is_file():
        return Path(name)
    ready = {path.stem: path for path in sorted(READY.glob("*.yaml"))}
    if str(name) in ready:
        return ready[str(name)]
    raise UserError(
        f"--template {name} is neither a file nor a built-in template{did_you_mean(str(name), ready) or '.'} Built in:"
        f" {', '.join(ready)}."
    )


def read_rows(table: Table, template: Template, where: str) -> tuple[dict[int, dict[str, Cell]], list[Problem]]:
    """The template's columns of each row, by line of the file, and the rows that the template cannot read.

    The cells are those of the table itself: a manifest reads `none` as missing, a template may have it as a value.

    Args:
        table: as read from a file.
        template: the columns to read.
        where: the file, for messages.

    Raises:
        UserError: the table lacks a column of the template.
    """
    template.check_columns(table.header, where)
    rows: dict[int, dict[str, Cell]] = {}
    problems = list(table.problems)
    places = {name: table.header.index(name) for name in template.columns}
    codes = {
        place
        for place in places.values()
        if are_codes({cell for row in table.rows if isinstance(cell := row[place], str)})
    }
    for line, stored in zip(table.lines, table.rows, strict=True):
        cells = [Code(cell) if place in codes and isinstance(cell, str) else cell for place, cell in enumerate(stored)]
        try:
            rows[line] = template.row(dict(zip(table.header, cells, strict=True)))
        except UserError as error:
            problems.append(Problem(line, str(error)))
    return rows, sorted(problems, key=lambda problem: problem.line)


def read_template(path: Path) -> Template:
    """Read a template.

    Raises:
        UserError: not YAML, an unknown key (names the closest one), a value of another kind, a cycle of parents, a
            bound that cannot be read, or a column that identifies patients or is a date and is not listed in `allow`.
    """
    try:
        return template_of_values(template_values(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def template_of_values(values: Mapping[str, Any]) -> Template:
    """A template from the values of `template_values`.

    Raises:
        UserError: as `read_template`, without the file.
    """
    _check_keys(values, TEMPLATE_KEYS, "")
    columns = _mapping(values.get("columns"), "columns")
    if not columns:
        raise UserError("`columns` is empty; give at least one column, in the order of the text.")
    allowed = _words(values.get("allow", ()), "allow")
    for name in allowed:
        _require_column(name, columns, "allow")
    read = {name: _column(name, given, name in allowed) for name, given in columns.items()}
    for name, given in columns.items():
        for parent in read[name].parents:
            _require_column(parent, columns, f"{name}: parents")
        rules = _mapping(given, name).get("follows", ())
        if not isinstance(rules, list | tuple):
            raise UserError(f"column {name!r}: `follows` is a list of rules, {{when: {{PARENT: VALUE}}, value: V}}.")
        read[name] = replace(read[name], follows=tuple(_rule(read[name], rule, read) for rule in rules))
    bounds = tuple(read_bound(text, tuple(read)) for text in _words(values.get("bounds", ()), "bounds"))
    for bound in bounds:
        for name in sorted(bound.columns):
            if read[name].values is not None:
                raise UserError(f"bounds: {bound.text!r} compares {name!r}, whose values are words; name a number.")
    texts = {key: _text(values[key], key) for key in ("join", "start", "end") if key in values}
    return Template(read, bounds=bounds, **texts)


def fitted_values(values: Mapping[str, Any], header: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of a template without the columns that a table lacks, and these columns.

    What depends on a column goes with it: its place among parents, the rules with a condition on it, and its bounds.
    """
    columns = _mapping(values.get("columns"), "columns")
    absent = [name for name in columns if name not in header]
    kept: dict[str, Any] = {}
    for name, given in columns.items():
        if name in absent:
            continue
        entry = dict(_mapping(given, name))
        if "parents" in entry:
            entry["parents"] = [parent for parent in _words(entry["parents"], name) if parent not in absent]
        if "follows" in entry:
            entry["follows"] = [
                rule for rule in entry["follows"] if not set(_mapping(rule, name)["when"]) & set(absent)
            ]
        kept[name] = entry
    fitted = {**values, "columns": kept}
    if "bounds" in values:
        bounds = [(text, read_bound(text, tuple(columns))) for text in _words(values["bounds"], "bounds")]
        fitted["bounds"] = [text for text, bound in bounds if not bound.columns & set(absent)]
    return fitted, absent


def template_values(path: Path) -> dict[str, Any]:
    """The file as texts, lists and mappings; `yes`, `1.0` and `null` remain texts, as in a table.

    Raises:
        UserError: not YAML, or a repeated key.
    """
    try:
        # Nothing, `~` and `null` are the empty text; `none` is a word.
        values = read_yaml_text(Path(path).read_text(encoding="utf-8"), null="")
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"cannot be read as a template: {' '.join(str(error).split())}.") from error
    return _mapping(values, "a template")


def _column(name: str, given: object, allowed: bool) -> Column:
    if not allowed and (what := names_identity(name)):
        raise UserError(
            f"column {name!r} is {what} by its name and is not put into prompts; leave it out, or list it under"
            " `allow` if it does not identify patients."
        )
    values = _mapping(given, name)
    _check_keys(values, COLUMN_KEYS, f" of column {name!r}")

    def text(key: str, default: str) -> str:
        return _text(values.get(key, default), f"{name}: {key}")

    say, missing, days = text("say", SLOT), text("missing", OMIT), text("relative_days", "false")
    rest = say.replace(SLOT, "", 1)
    if say and (SLOT not in say or "{" in rest or "}" in rest):
        raise UserError(f"column {name!r}: say {say!r} must contain {SLOT} once, and no other braces.")
    words = _named_texts(values, "values", name) if "values" in values else None
    if words is not None and not words:
        raise UserError(f"column {name!r}: `values` is empty.")
    column = Column(
        name,
        say=say,
        values=words,
        unit=text("unit", ""),
        cap=_cap(values, name, words is None and "bands" not in values),
        bands=_bands(values, name),
        missing="" if missing == OMIT else missing,
        sentinels=frozenset(spelled(word) for word in _words(values.get("sentinels", ()), f"{name}: sentinels")),
        days={"": None, "false": None, "true": ""}.get(days.casefold(), days),
        parents=_words(values.get("parents", ()), f"{name}: parents"),
        outcome=_flag(values.get("outcome", "false"), f"{name}: outcome"),
        allowed=allowed,
    )
    numeric = [key for key in ("unit", "cap", "bands", "days") if getattr(column, key) not in (None, "", ())]
    if words is not None and numeric:
        raise UserError(f"column {name!r}: a value map and {numeric[0]} exclude each other.")
    if both := column.sentinels & {spelled(key) for key in words or ()}:
        raise UserError(f"column {name!r}: {min(both)!r} is both a value and a sentinel for a missing one.")
    return column


def _cap(values: Mapping[str, object], name: str, number: bool) -> float | None:
    """Ages are capped unless the template states otherwise (45 CFR 164.514(b)(2)(i)(C))."""
    if "cap" not in values:
        return AGE_CAP if is_age(name) and number else None
    text = _text(values["cap"], f"{name}: cap")
    if text.casefold() in MISSING:
        return None
    if not NUMBER.fullmatch(text):
        raise UserError(f"column {name!r}: cap {text!r} is not a number; give one, or none to lift it.")
    return float(text)


def _bands(values: Mapping[str, object], name: str) -> tuple[tuple[float, str], ...]:
    """Lowest number of each band and its words, from `{20: twenties, 30: thirties}`."""
    if "bands" not in values:
        return ()
    words = _named_texts(values, "bands", name)
    if wrong := [key for key in words if not NUMBER.fullmatch(key)]:
        raise UserError(f"column {name!r}: band {wrong[0]!r} is not a number; name each band by its lowest number.")
    if not words or "cap" in values or "relative_days" in values:
        raise UserError(f"column {name!r}: `bands` needs at least one band, and excludes cap and relative_days.")
    return tuple(sorted((float(key), text) for key, text in words.items()))


def _rule(column: Column, given: object, columns: Mapping[str, Column]) -> Rule:
    where = f"{column.name}: follows"
    values = _mapping(given, where)
    _check_keys(values, RULE_KEYS, f" of a rule of column {column.name!r}")
    conditions = _mapping(values.get("when"), f"{where}: when")
    for parent in conditions:
        if parent not in column.parents:
            hint = did_you_mean(parent, column.parents) or "; add it there, or leave it out."
            raise UserError(f"column {column.name!r}: a rule uses {parent!r}, which is not among its parents{hint}")
    unknown = _flag(values.get("unknown", "false"), f"{where}: unknown")
    if not conditions or unknown == ("value" in values):
        raise UserError(
            f"column {column.name!r}: a rule has `when` with values of its parents, and one of `value: V` or"
            " `unknown: true`."
        )

    def cells(of: Column, words: object) -> tuple[Cell, ...]:
        read = tuple(of.read(text) for text in _words(words, where))
        if None in read:
            raise UserError(f"{where} uses a value of {of.name!r} that means missing.")
        return read

    when = {parent: cells(columns[parent], words) for parent, words in conditions.items()}
    was = cells(column, values.get("was", ()))
    return Rule(when, was, None if unknown else cells(column, _text(values["value"], f"{where}: value"))[0])


def _flag(given: object, where: str) -> bool:
    text = _text(given, where).casefold()
    if text not in ("true", "false"):
        raise UserError(f"{where}: {text!r} is neither true nor false.")
    return text == "true"


def _text(given: object, where: str) -> str:
    if not isinstance(given, str):
        raise UserError(f"{where}: give a text here, not a list or a mapping.")
    return given


def _words(given: object, where: str) -> tuple[str, ...]:
    """One text or a list of texts."""
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list | tuple):
        raise UserError(f"{where}: give a list here, as in [a, b].")
    return tuple(_text(entry, where) for entry in given)


def _named_texts(values: Mapping[str, object], key: str, name: str) -> dict[str, str]:
    where = f"{name}: {key}"
    return {entry: _text(text, f"{where}: {entry}") for entry, text in _mapping(values[key], where).items()}


def _mapping(given: object, where: str) -> dict[str, Any]:
    if given is None or given == "":
        return {}
    if not isinstance(given, dict):
        raise UserError(f"{where}: give names with values here, as in {{a: b}}.")
    return given


def _check_keys(values: Iterable[str], known: Sequence[str], of: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"unknown key {key!r}{of}{did_you_mean(key, known) or '.'} Known: {', '.join(known)}.")


def _require_column(name: str, columns: Sequence[str] | Mapping[str, object], where: str) -> None:
    if name not in columns:
        raise UserError(
            f"{where}: the template has no column {name!r}{did_you_mean(name, columns) or '.'} Columns:"
            f" {', '.join(columns)}."
        )
