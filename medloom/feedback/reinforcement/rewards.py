"""Rewards: plain functions of images and conditions, named on the command line, checked and added up."""

import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError, first_line
from medloom.core.image import Image
from medloom.core.types import Condition

# Images in the values of their modality and what they should show, to a number each, more for better; None where the
# reward says nothing of an image.
Reward = Callable[[Sequence[Image], Sequence[Condition]], Sequence[float | None]]
# Makes a reward of what stands after its first word.
Factory = Callable[[str], Reward]


@dataclass(frozen=True)
class NamedReward:
    """A reward with its weight.

    Attributes:
        name: as on the command line, without the weight.
        function: the reward.
        weight: factor of its values in the sum.
    """

    name: str
    function: Reward
    weight: float = 1.0

    def __call__(self, images: Sequence[Image], conditions: Sequence[Condition]) -> NDArray[np.float64]:
        """Its values `(N,)`, NaN where it says nothing of an image.

        Raises:
            UserError: it fails, or gives another number of values, or one that is not finite; names the image.
        """
        try:
            values = list(self.function(images, conditions))
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"reward {self.name} failed on {len(images)} images, the first {_words(conditions[0])}:"
                f" {type(error).__name__}: {first_line(error)}."
            ) from error
        if len(values) != len(images):
            raise UserError(
                f"reward {self.name} gave {len(values)} values for {len(images)} images; it has to give one for each,"
                " or None."
            )
        for place, value in enumerate(values):
            if value is not None and not (isinstance(value, float | int) and math.isfinite(value)):
                raise UserError(
                    f"reward {self.name} gave {value!r} for image {place + 1} of {len(images)},"
                    f" {_words(conditions[place])}; give a finite number, or None where it says nothing of an image."
                )
        return np.array([math.nan if value is None else float(value) for value in values])


def total(
    rewards: Sequence[NamedReward], images: Sequence[Image], conditions: Sequence[Condition]
) -> NDArray[np.float64]:
    """The weighted sum of rewards `(N,)`; NaN for an image that one of them says nothing of.

    Raises:
        UserError: see `NamedReward`.
    """
    found = [reward.weight * reward(images, conditions) for reward in rewards]
    return np.asarray(np.sum(found, axis=0))


def named_rewards(words: Sequence[str], factories: Mapping[str, Factory]) -> list[NamedReward]:
    """Rewards by their names: `NAME:REST` or `MODULE:FUNCTION`, and `=WEIGHT` at its end.

    Args:
        words: of the command line.
        factories: makes a reward of what stands after its name and a colon.

    Raises:
        UserError: none, one twice, a weight that is no number, or a function that is not there.
    """
    found: list[NamedReward] = []
    for word in words:
        name, equals, number = word.rpartition("=")
        if not equals:
            name, number = word, "1"
        try:
            weight = float(number)
        except ValueError:
            raise UserError(f"reward {word}: {number!r} is no weight; give NAME=NUMBER, as {name}=0.5.") from None
        if not math.isfinite(weight) or weight == 0:
            raise UserError(f"reward {word}: give a finite weight other than 0.")
        if name in [known.name for known in found]:
            raise UserError(f"reward {name} stands twice; give it one weight.")
        start, colon, rest = name.partition(":")
        if not colon or not rest:
            raise UserError(f"reward {word}: give {', '.join(f'{own}:...' for own in factories)} or MODULE:FUNCTION.")
        function = factories[start](rest) if start in factories else _own(start, rest)
        found.append(NamedReward(name, function, weight))
    if not found:
        raise UserError("no reward: name at least one, as MODULE:FUNCTION.")
    return found


def _own(module: str, function: str) -> Reward:
    """A function of the user's own, from a module that can be imported from here.

    Raises:
        UserError: it is not there.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise UserError(f"reward {module}:{function}: {module} cannot be imported ({first_line(error)}).") from error
    if not callable(found):
        raise UserError(f"reward {module}:{function}: the module has no function {function}.")
    own: Reward = found
    return own


def _words(condition: Condition) -> str:
    return f"of the prompt {condition.text!r}" if condition.text else "of a condition without text"
