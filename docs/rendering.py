"""How the site shows what is particular to medloom: defaults with limits, and options of commands."""

import re

from griffe import Attribute, ExprCall, Extension

COMMANDS = re.compile(r'<div class="language-sh.*?</div>|<code>[^<]*</code>', re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")


class LimitedDefaults(Extension):
    """Signatures with the default alone: `strength: float = 1.0` for `limited(1.0, above=0, at_most=1)`."""

    def on_attribute_instance(self, *, attr: Attribute, **_: object) -> None:
        """Replace the call by its first argument."""
        if isinstance(attr.value, ExprCall) and attr.value.function.canonical_name == "limited":
            attr.value = attr.value.arguments[0]


def on_page_content(html: str, **_: object) -> str:
    """A page whose lines do not break after the dashes of an option."""
    return COMMANDS.sub(lambda code: OPTION.sub(r'<span class="option">\g<0></span>', code[0]), html)
