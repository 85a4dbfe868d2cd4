"""Texts of pictures of tiles: captions, what is black and white, and lines of a width in pixels."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from medloom.core.cells import spelled
from medloom.core.spec import Intensity
from medloom.core.types import Condition

MARK = "SYNTHETIC, research use only"
FONT = "DejaVu Sans"
# A power of two, so that pixels divided by it and multiplied again stay whole.
DPI = 128
# Characters of a condition's text in a caption.
SHORT = 80


def caption_of(condition: Condition, *further: str) -> str:
    """What an image was asked to show, shortened: text, table, modality and view, and further words.

    Args:
        condition: of the image.
        further: e.g. its seed.
    """
    cells = [f"{name}={spelled(cell)}" for name, cell in condition.table.items() if cell is not None]
    texts = [shortened(condition.text or ""), shortened(", ".join(cells))]
    last = ", ".join(words for words in (condition.modality, condition.view, *further) if words)
    return "\n".join(words for words in (*texts, last) if words)


def shortened(text: str) -> str:
    """A text of a few lines next to a tile, cut between words."""
    return textwrap.shorten(text, SHORT, placeholder=" ...")


def quoted(instruction: str | None) -> str:
    """An instruction next to its row."""
    return f'"{shortened(instruction)}"' if instruction else "no instruction"


def window_note(intensities: Mapping[str, Intensity], modalities: Iterable[str]) -> str:
    """What is black and what is white in images of some modalities."""
    shown = [f"{name} {intensities[name].shown}" for name in dict.fromkeys(modalities)]
    return f"Black to white: {'; '.join(shown)}."


def wrapped(text: str, width: float, size: int, bold: bool = False) -> list[str]:
    """Text in lines of at most `width` pixels, broken at blanks, after commas, and within longer words."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in re.findall(r"[^\s,]*(?:,+\s*|\s+|$)", paragraph):
            if line and _width((line + word).rstrip(), size, bold) > width:
                lines.append(line.rstrip())
                line = ""
            while _width(word.rstrip(), size, bold) > width and len(word.rstrip()) > 1:
                fits = next(n for n in range(len(word), 0, -1) if n == 1 or _width(word[:n], size, bold) <= width)
                # Rather after a sign than within a word.
                signs = [place + 1 for place in range(fits) if word[place] in "=_-/|+"]
                cut = signs[-1] if signs else fits
                lines.append(word[:cut])
                word = word[cut:]
            line += word
        lines.append(line.rstrip())
    return lines


def printable(text: str) -> str:
    """Text with a mark for each character that the font lacks."""
    known = _characters()
    return "".join(sign if sign == "\n" or ord(sign) in known else "\ufffd" for sign in text)


@lru_cache(maxsize=8192)
def _width(text: str, size: int, bold: bool) -> float:
    """Pixels of a text in one line."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=FONT, size=size * 72 / DPI, weight="bold" if bold else "normal")
    width: float = _ruler().get_text_width_height_descent(printable(text), font, False)[0]
    return width


@lru_cache(maxsize=1)
def _ruler() -> Any:
    from matplotlib.backends import backend_agg

    # matplotlib has no types here.
    agg: Any = backend_agg
    return agg.RendererAgg(8, 8, DPI)


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())
