"""How often held-out images were opened: each evaluation of them is noted in a file next to their manifest.

Whoever looks at results and then changes a plan, a model or an option has used the held-out images for the choice. The
file says how often that was possible. It holds hashes and names, and no path of the computer.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import (
    hash_json,
    hash_text,
    read_mapping,
    relative_path,
    sampled_content,
    time_stamp,
    write_json,
)
from medloom.core.output_folder import output_files
from medloom.data.manifest import Manifest
from medloom.evaluation.report.plan import Plan

OPENINGS = "openings.json"
SCHEMA = 1
ENTRY = ("time", "data", "plan", "hashed", "command", "evaluated", "out", "place")
# What tells an opening from another one: the same again is an evaluation that was interrupted and resumed.
SAME = ("data", "plan", "command", "evaluated", "place")
# Seconds to wait for another process that notes its own.
PATIENCE, PAUSE = 20.0, 0.05


@dataclass(frozen=True)
class Openings:
    """How often the same held-out images were opened, with this evaluation.

    Attributes:
        count: evaluations; 0 where they cannot be counted.
        plans: different plans among them.
        note: what a reader has to know about the plans of earlier ones; may be empty.
        lack: why openings cannot be counted; empty where they are.
        hashed: when the plan of this evaluation was hashed first; empty without one.
    """

    count: int = 0
    plans: int = 0
    note: str = ""
    lack: str = ""
    hashed: str = ""

    @property
    def sentence(self) -> str:
        """How often, in words."""
        if self.lack:
            return f"Openings of the held-out images cannot be counted: {self.lack}."
        times = "once" if self.count == 1 else f"{self.count} times"
        plans = {0: "without a plan", 1: "with one plan"}.get(self.plans, f"with {self.plans} different plans")
        return " ".join(filter(None, (f"The held-out images were opened {times}; {plans}.", self.note)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"count": self.count, "plans": self.plans, "note": self.note, "lack": self.lack}


def count_opening(held_out: Manifest, command: str, plan: Plan | None, out: Path, evaluated: str) -> Openings:
    """Note that results on held-out images are about to be seen, and count how often that was so.

    Nothing that goes wrong here ends an evaluation; the sentence then says that openings cannot be counted.

    Args:
        held_out: the images. They are known by their contents, whatever else their table says.
        command: its words.
        plan: of the evaluation, or None.
        out: folder of the report.
        evaluated: hash of what is evaluated on them.
    """
    path = held_out.source.absolute().with_name(OPENINGS)
    try:
        entry = {
            "time": time_stamp(),
            "data": hash_json(sorted(sampled_content(Path(str(file))) for file in held_out.frame["path"])),
            "plan": None if plan is None else plan.hash,
            "hashed": None if plan is None else plan.hashed,
            "command": command,
            "evaluated": evaluated,
            "out": out.absolute().name,
            "place": _place(out, path.parent),
        }
        if not os.access(path.parent, os.W_OK):
            return Openings(lack=f"the folder of {held_out.source.name} cannot be written")
        return _noted(path, entry)
    except (OSError, UserError):
        # Its words would hold paths of this computer.
        return Openings(lack=f"{OPENINGS} next to {held_out.source.name} cannot be read or written")


def _place(out: Path, folder: Path) -> str:
    """A hash of where a report lies relative to the held-out images; its path stays out of the file."""
    try:
        return hash_text(str(relative_path(out.resolve(), folder)))
    except ValueError:
        # On another drive.
        return hash_text(str(out.resolve()))


def _noted(path: Path, entry: dict[str, Any]) -> Openings:
    """Add an entry while no other process does, and count.

    Raises:
        UserError: the file holds something else, or cannot be written.
        OSError: it cannot be read.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        entered = False
        try:
            with output_files(path):
                entered = True
                return _counted(*_added(path, entry))
        except UserError:
            if entered or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)


def _added(path: Path, entry: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """All entries of the same images with this one, and its place among them."""
    known = _entries(path) if path.exists() else []
    number = next((row for row, own in enumerate(known) if all(own[name] == entry[name] for name in SAME)), None)
    if number is None:
        known = [*known, entry]
        write_json(path, {"schema": SCHEMA, "openings": known})
        number = len(known) - 1
    own = known[number]
    same = [each for each in known if each["data"] == entry["data"]]
    return same, next(row for row, each in enumerate(same) if each is own)


def _entries(path: Path) -> list[dict[str, Any]]:
    found = read_mapping(path).get("openings")
    if not isinstance(found, list) or not all(map(_is_entry, found)):
        raise UserError(f"{path} is no list of openings; put the original file back, or remove it.")
    return list(found)


def _is_entry(values: object) -> bool:
    if not isinstance(values, dict) or not {*ENTRY} <= {*values}:
        return False
    return all(isinstance(values[name], str | None) for name in ENTRY)


def _counted(entries: Sequence[dict[str, Any]], number: int) -> Openings:
    """Count openings.

    Args:
        entries: of the same images, in order.
        number: of the one that this evaluation is.
    """
    own = entries[number]
    plans = {entry["plan"] for entry in entries} - {None}
    before = [entry for entry in entries[:number] if entry["command"] == own["command"]]
    others = [entry for entry in before if entry["plan"] not in (None, own["plan"])]
    bare = [entry for entry in before if entry["plan"] is None]
    if own["plan"] is None:
        dropped = [
            f"A former evaluation of them had the plan {entry['plan']}, which was not given." for entry in others
        ]
        return Openings(len(entries), len(plans), dropped[-1] if dropped else "")
    notes = []
    if others:
        notes.append(
            f"The plan was changed after they had been opened on {others[0]['time']} with the plan {others[0]['plan']}."
        )
    if bare:
        notes.append(f"They had been opened without a plan before, first on {bare[0]['time']}.")
    return Openings(len(entries), len(plans), " ".join(notes), hashed=own["hashed"])
