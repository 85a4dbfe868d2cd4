"""What the labels of segmentation masks mean to a model: their names, and which of them it does not see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medloom.core.errors import UserError

BACKGROUND = 0
# No label is known here: outside of the mask, or there is none.
NO_MASK = -1


@dataclass(frozen=True)
class MaskSpec:
    """The classes of masks.

    Attributes:
        names: label -> name of every class that masks may have, those that the model does not see included; empty
            where nothing is known, and then any label is taken.
        hidden: label -> the label that the model sees instead; BACKGROUND where no class contains it.
        resample: whether a mask on another grid than its image's is resampled instead of refused.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    hidden: Mapping[int, int] = field(default_factory=dict)
    resample: bool = False

    def __post_init__(self) -> None:
        if wrong := sorted(label for label in self.names if label <= BACKGROUND):
            raise UserError(f"mask class {wrong[0]}: labels of classes are above 0, which is the background.")
        if len(set(self.names.values())) < len(self.names):
            twice = sorted(name for name in self.names.values() if list(self.names.values()).count(name) > 1)
            raise UserError(f"two mask classes are called {twice[0]!r}; give each a name of its own.")
        for label, instead in self.hidden.items():
            if label not in self.names or instead not in (BACKGROUND, *self.names) or instead in self.hidden:
                raise UserError(f"mask class {label} cannot be shown as {instead}: name classes that the model sees.")

    @property
    def visible(self) -> tuple[int, ...]:
        """Labels of the classes that the model sees, in the order of its channels."""
        return tuple(sorted(label for label in self.names if label not in self.hidden))

    def name(self, label: int) -> str:
        """The name of a class, or its label as a word."""
        return self.names.get(label, f"label {label}")

    def label(self, name: str) -> int:
        """The label of a class by its name, or by the label itself as a word.

        Raises:
            UserError: no such class; with the closest one.
        """
        from medloom.core.lookup import look_up

        by_name = {known: label for label, known in self.names.items()}
        by_name |= {str(label): label for label in self.names if str(label) not in by_name}
        return look_up(by_name, name, "mask class")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "names": {str(label): name for label, name in sorted(self.names.items())},
            "hidden": {str(label): instead for label, instead in sorted(self.hidden.items())},
            "resample": self.resample,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MaskSpec":
        """From what `to_dict` gave."""
        names = {int(label): str(name) for label, name in values["names"].items()}
        hidden = {int(label): int(instead) for label, instead in values["hidden"].items()}
        return cls(names, hidden, bool(values["resample"]))


def numbered(labels: Sequence[int]) -> dict[int, str]:
    """Names for classes of which only labels are known."""
    return {label: f"label {label}" for label in sorted(set(labels))}
