"""YAML with values as texts: `1e-4`, `off` and `12` are converted later, to the type that is needed."""

from typing import TYPE_CHECKING

from medloom.core.errors import UserError

if TYPE_CHECKING:
    import yaml

NULL = "tag:yaml.org,2002:null"


def read_yaml_text(text: str, null: str | None = None) -> object:
    """A YAML document as mappings, lists and texts; nothing, `~` and `null` become `null` unless quoted.

    Raises:
        UserError: not YAML, a repeated key, or an anchor that contains itself.
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return null if node is None else _value(node, null)
    except yaml.YAMLError as error:
        raise UserError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise UserError("an anchor contains itself, or lists are nested too deeply") from error


def _value(node: "yaml.Node", null: str | None) -> object:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_value(entry, null) for entry in node.value]
    if not isinstance(node, yaml.MappingNode):
        return null if node.tag == NULL else str(node.value)
    values: dict[str, object] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in values:
            raise UserError(f"line {key.start_mark.line + 1}: {name!r} occurs twice; leave one out")
        values[name] = _value(value, null)
    return values
