"""What a name of third-party weights means: a folder, or behind `hf:` a model of the Hugging Face hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from medloom.core.errors import UserError

HUB = "hf:"
# As the hub has them: the owner, which old models lack, and the name.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class WeightsSource:
    """Where third-party weights come from.

    Attributes:
        name: what libraries are given: a path, or a hub id.
        is_local: whether it is a folder; only other names may be requested from the hub.
    """

    name: str
    is_local: bool

    @property
    def folder(self) -> Path | None:
        """The folder, or None of a hub id."""
        return Path(self.name) if self.is_local else None


def find_weights(name: str, what: str) -> WeightsSource:
    """What a name means; no mistyped path becomes a request to the hub.

    Args:
        name: a folder, or `hf:ORG/NAME`.
        what: the option or the kind of network, for the message.

    Raises:
        UserError: neither a folder that exists nor a hub id.

    Examples:
        >>> find_weights("hf:org/name", "--text.encoder")
        WeightsSource(name='org/name', is_local=False)
    """
    if not name.startswith(HUB):
        if Path(name).is_dir():
            return WeightsSource(name, True)
        state = "is a file, not a folder" if Path(name).exists() else "does not exist"
        raise UserError(f"{what} {name} {state}; name a folder, or a model of the Hugging Face hub as {HUB}ORG/NAME.")
    hub_id = name.removeprefix(HUB)
    if not HUB_ID.fullmatch(hub_id):
        raise UserError(f"{what} {name} is no hub id; behind {HUB} stands ORG/NAME, and a folder stands without {HUB}.")
    return WeightsSource(hub_id, False)


def find_folder_or_hub_id(name: str, what: str) -> WeightsSource:
    """What stands behind an `hf:` that allows both: a folder if there is one, else a hub id with an owner.

    Args:
        name: a folder, or ORG/NAME.
        what: as the user wrote it, for the message.

    Raises:
        UserError: no folder, and nothing that can only be a hub id; a path that was mistyped is not requested.
    """
    if Path(name).is_dir():
        return WeightsSource(name, True)
    if HUB_ID.fullmatch(name) and "/" in name and not Path(name).parent.exists():
        return WeightsSource(name, False)
    raise UserError(
        f"{what}: there is no folder {name}; give a folder, or a model of the Hugging Face hub as ORG/NAME."
    )
