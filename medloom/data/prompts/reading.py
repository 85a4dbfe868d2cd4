"""Templates from YAML files: every key is checked, and every column that would tell who a patient is is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medloom.core.cells import MISSING, NUMBER, Cell, spelled
from medloom.core.errors import UserError
from medloom.core.lookup import did_you_mean
from medloom.core.yaml_text import read_yaml_text
from medloom.data.prompts.column import SLOT, Column, Rule
from medloom.data.prompts.identity import is_age, names_identity
from medloom.data.prompts.template import Template

READY = Path(__file__).resolve().parents[1] / "templates"
SUFFIX = ".template.yaml"
AGE_CAP = 89.0
OMIT = "omit"
TEMPLATE_KEYS = ("columns", "join", "start", "end", "allow")
COLUMN_KEYS = (
    *("say", "values", "unit", "cap", "bands", "missing", "sentinels"),
    *("relative_days", "parents", "follows", "outcome"),
)
RULE_KEYS = ("when", "was", "value", "unknown")


def find_template(name: str | Path) -> Path:
    """The file of a template: a path, or the name of a ready one.

    Raises:
        UserError: neither; with the closest of the ready ones.
    """
    if Path(name).is_file():
        return Path(name)
    ready = {path.stem: path for path in sorted(READY.glob("*.yaml"))}
    if str(name) in ready:
        return ready[str(name)]
    hint = did_you_mean(str(name), ready) or "."
    raise UserError(f"--template {name} is neither a file nor a ready template{hint} Ready: {', '.join(ready)}.")


def template_path(manifest: Path) -> Path:
    """Where the template of a manifest is kept: `mine.csv` and `mine.template.yaml`."""
    return manifest.with_name(f"{manifest.stem}{SUFFIX}")


def template_beside(manifest: Path) -> Path | None:
    """The template beside a manifest: its own, or one for the folder (`template.yaml`); None where there is none."""
    candidates = (template_path(manifest), manifest.with_name("template.yaml"))
    return next((path for path in candidates if path.is_file()), None)


def read_template(path: Path) -> Template:
    """Read a template.

    Raises:
        UserError: not YAML, an unknown key (with the closest one), a value of another kind, a circle of parents, or a
            column that identifies patients or is a date and does not stand in `allow`.
    """
    path = Path(path)
    try:
        return _template(template_values(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _template(values: Mapping[str, Any]) -> Template:
    _check_keys(values, TEMPLATE_KEYS, "")
    columns = _mapping(values.get("columns"), "columns")
    if not columns:
        raise UserError("`columns` names none; give at least one, in the order in which they are said.")
    allowed = _words(values.get("allow", ()), "allow")
    for name in allowed:
        _require_column(name, columns, "allow")
    read = {name: _column(name, given, name in allowed) for name, given in columns.items()}
    for name, given in columns.items():
        rules = _mapping(given, name).get("follows", ())
        read[name] = replace(read[name], follows=_rules(read[name], rules, read))
    texts = {key: _text(values[key], key) for key in ("join", "start", "end") if key in values}
    return Template(read, **texts)


def _column(name: str, given: Any, allowed: bool) -> Column:
    if not allowed and (what := names_identity(name)):
        raise UserError(
            f"column {name!r} is {what} by its name and is not put into prompts; leave it out, or list it under"
            " `allow` where it tells nobody who a patient is."
        )
    values = _mapping(given, name)
    _check_keys(values, COLUMN_KEYS, f" of column {name!r}")
    words = _values(values, name)
    column = Column(
        name,
        say=_say(values.get("say", SLOT), name),
        values=words,
        unit=_text(values.get("unit", ""), f"{name}: unit"),
        cap=_cap(values, name, words is None and "bands" not in values),
        bands=_bands(values, name),
        missing=_missing(values.get("missing", OMIT), name),
        sentinels=frozenset(spelled(text) for text in _words(values.get("sentinels", ()), f"{name}: sentinels")),
        days=_days(values.get("relative_days", "false"), name),
        parents=_words(values.get("parents", ()), f"{name}: parents"),
        outcome=_flag(values.get("outcome", "false"), f"{name}: outcome"),
        allowed=allowed,
    )
    _check_column(column)
    return column


def _check_column(column: Column) -> None:
    numeric = [key for key in ("unit", "cap", "bands", "days") if getattr(column, key) not in (None, "", ())]
    if column.values is not None and numeric:
        raise UserError(f"column {column.name!r}: a value map and {numeric[0]} exclude each other.")
    if column.values is not None and (both := column.sentinels & {spelled(key) for key in column.values}):
        raise UserError(f"column {column.name!r}: {min(both)!r} is both a value and a sentinel for a missing one.")


def _rules(column: Column, given: Any, columns: Mapping[str, Column]) -> tuple[Rule, ...]:
    for parent in column.parents:
        _require_column(parent, columns, f"{column.name}: parents")
    if not isinstance(given, list | tuple):
        raise UserError(f"column {column.name!r}: `follows` is a list of rules, {{when: {{PARENT: VALUE}}, value: V}}.")
    return tuple(_rule(column, entry, columns) for entry in given)


def _rule(column: Column, given: Any, columns: Mapping[str, Column]) -> Rule:
    where = f"{column.name}: follows"
    values = _mapping(given, where)
    _check_keys(values, RULE_KEYS, f" of a rule of column {column.name!r}")
    conditions = _mapping(values.get("when"), f"{where}: when")
    for parent in conditions:
        if parent not in column.parents:
            hint = did_you_mean(parent, column.parents) or "; name it there, or leave it out."
            raise UserError(f"column {column.name!r}: a rule asks for {parent!r}, which is not among its parents{hint}")
    unknown = _flag(values.get("unknown", "false"), f"{where}: unknown")
    if not conditions or unknown == ("value" in values):
        raise UserError(
            f"column {column.name!r}: a rule says `when` its parents have certain values and one of `value: V` or"
            " `unknown: true`."
        )
    when = {parent: _cells(columns[parent], given, where) for parent, given in conditions.items()}
    was = _cells(column, values.get("was", ()), where)
    value = None if unknown else _cells(column, _text(values["value"], f"{where}: value"), where)[0]
    return Rule(when, was, value)


def _cells(column: Column, given: Any, where: str) -> tuple[Cell, ...]:
    """Values of a column that a rule names."""
    cells = tuple(column.read(text) for text in _words(given, where))
    if None in cells:
        raise UserError(f"{where} names a value of {column.name!r} that stands for a missing one.")
    return cells


def _values(values: Mapping[str, Any], name: str) -> dict[str, str] | None:
    if "values" not in values:
        return None
    words = _mapping(values["values"], f"{name}: values")
    if not words:
        raise UserError(f"column {name!r}: `values` names none.")
    return {key: _text(text, f"{name}: values: {key}") for key, text in words.items()}


def _say(given: Any, name: str) -> str:
    text = _text(given, f"{name}: say")
    if not text:
        return text
    rest = text.replace(SLOT, "", 1)
    if SLOT not in text or "{" in rest or "}" in rest:
        raise UserError(f"column {name!r}: say {text!r} has to have {SLOT} in it once, and no other braces.")
    return text


def _cap(values: Mapping[str, Any], name: str, number: bool) -> float | None:
    """Ages are capped unless the template says otherwise (45 CFR 164.514(b)(2)(i)(C))."""
    if "cap" not in values:
        return AGE_CAP if is_age(name) and number else None
    text = _text(values["cap"], f"{name}: cap")
    if text.casefold() in MISSING:
        return None
    if not NUMBER.fullmatch(text):
        raise UserError(f"column {name!r}: cap {text!r} is not a number; give one, or none to lift it.")
    return float(text)


def _bands(values: Mapping[str, Any], name: str) -> tuple[tuple[float, str], ...]:
    """Lowest number of each band and its words, as `{20: twenties, 30: thirties}`."""
    if "bands" not in values:
        return ()
    words = _mapping(values["bands"], f"{name}: bands")
    if wrong := [key for key in words if not NUMBER.fullmatch(key)]:
        raise UserError(f"column {name!r}: band {wrong[0]!r} is not a number; name each by its lowest number.")
    if not words or "cap" in values or "relative_days" in values:
        raise UserError(f"column {name!r}: `bands` names at least one band, and stands without cap and relative_days.")
    return tuple(sorted((float(key), _text(text, f"{name}: bands: {key}")) for key, text in words.items()))


def _missing(given: Any, name: str) -> str:
    text = _text(given, f"{name}: missing")
    return "" if text == OMIT else text


def _days(given: Any, name: str) -> str | None:
    """The event of relative days: none with `true`, else as it is named."""
    text = _text(given, f"{name}: relative_days")
    return {"": None, "false": None, "true": ""}.get(text.casefold(), text)


def _flag(given: Any, where: str) -> bool:
    text = _text(given, where).casefold()
    if text not in ("true", "false"):
        raise UserError(f"{where}: {text!r} is neither true nor false.")
    return text == "true"


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise UserError(f"{where}: a text is needed here, not a list or a table.")
    return given


def _words(given: Any, where: str) -> tuple[str, ...]:
    """One text or a list of texts."""
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list | tuple):
        raise UserError(f"{where}: a list is needed here, as [a, b].")
    return tuple(_text(entry, where) for entry in given)


def _mapping(given: Any, where: str) -> dict[str, Any]:
    if given in (None, ""):
        return {}
    if not isinstance(given, dict):
        raise UserError(f"{where}: names with values are needed here, as {{a: b}}.")
    return given


def _check_keys(values: Mapping[str, Any], known: Sequence[str], of: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"unknown key {key!r}{of}{did_you_mean(key, known) or '.'} Known: {', '.join(known)}.")


def _require_column(name: str, columns: Mapping[str, Any], where: str) -> None:
    if name not in columns:
        hint = did_you_mean(name, columns) or "."
        raise UserError(f"{where}: the template has no column {name!r}{hint} Columns: {', '.join(columns)}.")


def template_values(path: Path) -> dict[str, Any]:
    """The file as texts, lists and tables: `yes`, `1.0` and `null` stay what is written, as cells of a table do.

    Raises:
        UserError: not YAML, or a key twice.
    """
    try:
        # Nothing, `~` and `null` are the empty text; the word `none` is a word.
        values = read_yaml_text(path.read_text(encoding="utf-8"), null="")
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"cannot be read as a template: {' '.join(str(error).split())}.") from error
    return _mapping(values, "a template")
