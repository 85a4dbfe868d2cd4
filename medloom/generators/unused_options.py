"""Options that a way of building a model does not use: refused by name where given, and left out of run.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medloom.core.config import option_flags, plain
from medloom.core.errors import UserError
from medloom.core.files import known_content
from medloom.generators.options import TrainOptions
from medloom.generators.run_folder import find_run

# Options that may name a file or a folder, whose content counts.
PLACES = ("base", "autoencoder", "from_run", "classes", "tokenizer", "encoder", "perceptual")
ABSENT = object()


@dataclass(frozen=True, eq=False)
class Unused:
    """Options that are not used, and why.

    Attributes:
        names: options (`noise.process`), or whole groups (`network`).
        because: the end of a sentence that says what decides instead.
        known: what the model has instead, by option; such a value may be given, since it changes nothing.
        except_: options, or groups, among these that are used.
    """

    names: Sequence[str]
    because: str
    known: Mapping[str, Any] = field(default_factory=dict)
    except_: Sequence[str] = ()

    def covers(self, name: str) -> bool:
        """Whether an option is one of them."""
        return _among(name, self.names) and not _among(name, self.except_)


def _among(name: str, names: Sequence[str]) -> bool:
    return any(name == own or name.startswith(f"{own}.") for own in names)


def refuse_unused(options: TrainOptions, given: frozenset[str], unused: Sequence[Unused]) -> None:
    """Refuse options that were given and would change nothing.

    Args:
        options: of the run.
        given: the names of those that were given.
        unused: what this way of building does not use.

    Raises:
        UserError: names the first of them.
    """
    values = dict(flat_options(by_content(plain(asdict(options)), {})))
    flags = option_flags(options)
    for name in sorted(given):
        for entry in unused:
            if entry.covers(name) and entry.known.get(name, ABSENT) != values[name]:
                has = f" ({flags[name]} {_spelled(entry.known[name])})" if name in entry.known else ""
                flag = f"--no-{name}" if values[name] is False and flags[name] == f"--{name}" else flags[name]
                raise UserError(f"{flag} would not be used: {entry.because}{has}; leave it out.")


def effective(given: Mapping[str, Any], unused: Sequence[Unused]) -> dict[str, Any]:
    """Options as the model has them: of unused ones what it has instead, or nothing.

    Args:
        given: options as JSON values, nested by group.
        unused: what the way of building does not use.
    """
    found: dict[str, Any] = {}
    for name, value in flat_options(given):
        entry = next((entry for entry in unused if entry.covers(name)), None)
        if entry is not None and name not in entry.known:
            continue
        *groups, last = name.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value if entry is None else entry.known[name]
    return found


def flat_options(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options by their whole names, `network.widths`, from groups of them."""
    for name, value in values.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" != "columns":
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def by_content(given: Mapping[str, Any], places: dict[str, str], group: str = "") -> dict[str, Any]:
    """Options with a hash instead of each file or folder that they name, so that these may be moved.

    Args:
        given: options as JSON values, nested by group.
        places: gets the name and the path of each.
        group: of nested options, `text.`.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            found[name] = by_content(value, places, f"{group}{name}.")
        elif name in PLACES and isinstance(value, str) and Path(value).exists():
            places[group + name] = value
            run = find_run(Path(value))
            found[name] = f"content {known_content(Path(value)) if run is None else run.model_hash()}"
        else:
            found[name] = value
    return found


def _spelled(value: object) -> str:
    """A value of an option as a user would write it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
