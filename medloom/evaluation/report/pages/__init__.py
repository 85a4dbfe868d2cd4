"""Self-contained pages: no script, no file beside them, no network."""

import base64
from typing import Any


def page(template: str, **told: Any) -> str:
    """A page of this folder's templates, every value escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medloom.evaluation.report.pages", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template(template).render(**told)


def embedded(picture: bytes) -> str:
    """A PNG as the source of an image element."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")


def number(value: float | None) -> str:
    """Three digits, as people read them."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
