"""Settings of an editor, chosen on validation patients of a virtual cohort and shown once on test patients.

An editor can follow its instruction more or less strongly, from several starts. Each setting edits the validation
triples, and `medloom evaluate edits --truth` judges it. The chosen setting is the one with the least distance from what
is required: the sum over all criteria (direction and side, the fraction of the true change of each finding and of what
becomes of it, what is not named, an instruction for no change) of how far the far end of the interval lies beyond its
bound, as a fraction of the bound; without an interval, the value. A setting whose criteria all hold has distance 0. Of
equal distances the one whose fractions of the true change are nearest to 1 on average is chosen.

The test triples are edited with this setting alone. The folder remembers the setting that they were opened with and
refuses another one. What is there already is not made again.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import hash_file, read_json, write_json
from medloom.core.lookup import look_up
from medloom.data.manifest import Manifest, read_manifest
from medloom.evaluation.edits.truth import FRACTION
from medloom.evaluation.report.metrics import HOLDS, number, with_interval
from medloom.generators.leakage import refuse_seen
from medloom.generators.run_folder import RunFolder
from medloom.generators.sampling import AUTO, EVERYWHERE
from medloom.recipes.commands import run_command
from medloom.report_text.progression import NO_CHANGE

OPENED = "opened.json"
Verdicts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Setting:
    """How an editor is asked.

    Attributes:
        start: noise, prior or inversion.
        text: guidance scale of the instruction.
        negative: instruction that it is compared with, or empty.
        strength: how far towards noise prior and inversion start.
        region: where the image may change: auto or everywhere.
    """

    start: str = "noise"
    text: float = 1.0
    negative: str = ""
    strength: float = 1.0
    region: str = AUTO

    @classmethod
    def read(cls, words: str) -> "Setting":
        """From `start=inversion,text=2,negative=No change.`.

        Raises:
            UserError: an unknown name, or what is no number.
        """
        given: dict[str, Any] = {}
        for word in words.split(","):
            name, equals, value = word.partition("=")
            look_up(dict.fromkeys(("start", "text", "negative", "strength", "region")), name, "name in --setting")
            try:
                given[name] = float(value) if name in ("text", "strength") else value
            except ValueError:
                raise UserError(f"--setting {words}: {word} is no number; give {name}=1.5.") from None
            if not equals or not value:
                raise UserError(f"--setting {words}: give NAME=VALUE, as start=inversion,text=2.")
        return cls(**given)

    def __str__(self) -> str:
        strength = f" {self.strength:g}" if self.strength != 1 else ""
        compared = f", compared with {self.negative!r}" if self.negative else ""
        everywhere = "" if self.region == AUTO else f", {self.region}"
        return f"from {self.start}{strength}, text {self.text:g}{compared}{everywhere}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return re.sub(r"[^a-z0-9.]+", "-", str(self).casefold()).strip("-.")

    @property
    def options(self) -> dict[str, Any]:
        """Options of `medloom edit`."""
        how = {"start": self.start, "strength": self.strength, "region": self.region}
        return {**how, "guidance": ["1", f"text={self.text:g}"], "negative": self.negative or None}


# By family. A negative text is refused where nothing looks at it: no scale, no inversion and no region that is found.
SETTINGS: Mapping[str, Sequence[Setting]] = {
    "diffusion": (
        Setting(),
        Setting(text=2, negative=NO_CHANGE),
        Setting("inversion", negative=NO_CHANGE),
        Setting(region=EVERYWHERE),
        *(Setting("inversion", text, region=EVERYWHERE) for text in (2, 4, 6)),
        *(Setting("inversion", text, NO_CHANGE, region=EVERYWHERE) for text in (1, 1.5, 3)),
        Setting("inversion", 1, NO_CHANGE, 0.8, EVERYWHERE),
        Setting("prior", 1.5, NO_CHANGE, 0.8, EVERYWHERE),
    ),
    "tokens": (
        *(Setting(text=text, region=region) for text in (1, 2, 4) for region in (AUTO, EVERYWHERE)),
        *(Setting("prior", text, NO_CHANGE, 0.5, EVERYWHERE) for text in (1.5, 3)),
    ),
}


def main(words: list[str]) -> None:
    """Edit and judge with each setting, choose one, and judge it on the test patients."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="run folder of an editor")
    parser.add_argument("--truth", type=Path, required=True, help="the virtual cohort of the triples")
    parser.add_argument("--validation", type=Path, required=True, help="triples that the setting is chosen on")
    parser.add_argument("--test", type=Path, help="triples that the chosen setting is shown on; none: choose only")
    parser.add_argument("--out", type=Path, default=Path("runs/edit_settings"))
    parser.add_argument("--steps", type=int, default=None, help="of the sampler")
    parser.add_argument("--setting", action="append", default=[], help="start=inversion,text=2,negative=No change.")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(words)
    refuse_overlap(options.model, options.validation, options.test)
    family = str(RunFolder(options.model).index()["family"])
    own = look_up(SETTINGS, family, "--model: family of editors")
    settings = [Setting.read(given) for given in options.setting] or own
    judged: dict[Setting, Verdicts] = {}
    for setting in settings:
        folder = options.out / "validation" / setting.folder
        judged[setting] = _verdicts(options, setting, options.validation, folder)
    chosen = choose(judged)
    print("\n".join(_table(judged, chosen)))
    print(f"\nchosen on {options.validation}: {chosen}")
    if options.test is None:
        return
    open_test(options.out / OPENED, options.test, chosen)
    found = _verdicts(options, chosen, options.test, options.out / "test")
    print(f"\non {options.test}:\n")
    print("\n".join(_table({chosen: found}, chosen)))


def refuse_overlap(model: Path, validation: Path, test: Path | None) -> None:
    """Refuse patients who are in both manifests or whom the model has seen.

    Raises:
        UserError: says how many, and where.
    """
    choosing = read_manifest(validation, need=("path", "prior"))
    refuse_seen(model, validation, choosing)
    if test is None:
        return
    shown = read_manifest(test, need=("path", "prior"))
    refuse_seen(model, test, shown)
    if both := _patients(shown) & _patients(choosing):
        raise UserError(f"{test}: {len(both)} of its patients are in {validation} too; show other patients.")
    for split in RunFolder(model).splits():
        if used := split.seen(sorted(_patients(shown)), "validation"):
            raise UserError(
                f"{test}: {len(used)} of its patients were held out for validation of {model}; show patients who were"
                " used for nothing."
            )


def _patients(manifest: Manifest) -> set[str]:
    return {str(patient) for patient in manifest.frame["patient_id"]}


def _verdicts(options: argparse.Namespace, setting: Setting, triples: Path, folder: Path) -> Verdicts:
    """The verdicts on edits of some triples; those of edits that were judged before are read."""
    given = {"model": options.model, "data": triples, "steps": options.steps, "device": options.device}
    # Rows with days that training has not seen are left out, of every setting the same.
    manifest = run_command("edit", out=folder, controls=["nochange"], skip_bad=True, **given, **setting.options)
    scores = folder.with_name(f"{folder.name}-report") / "scores.json"
    if not scores.is_file() or read_json(scores).get("edits") != hash_file(manifest):
        judging = {"data": manifest, "reference": triples, "truth": options.truth}
        run_command("evaluate edits", out=scores.parent, device=options.device, **judging)
    verdicts: Verdicts = read_json(scores)["verdicts"]
    return verdicts


def choose(judged: Mapping[Setting, Verdicts]) -> Setting:
    """The setting with the least distance from what is required; see the module."""
    return min(judged, key=lambda setting: (distance(judged[setting]), _deviation(judged[setting])))


def distance(verdicts: Verdicts) -> float:
    """How far the far ends of intervals lie beyond their bounds, as fractions of the bounds, summed over criteria."""
    total = 0.0
    for verdict in verdicts:
        value, least, most = verdict["value"], verdict["at_least"], verdict["at_most"]
        low, high = (value if verdict[end] is None else verdict[end] for end in ("low", "high"))
        total += 0.0 if least is None else max(0.0, (least - low) / abs(least))
        total += 0.0 if most is None else max(0.0, (high - most) / abs(most))
    return total


def _deviation(verdicts: Verdicts) -> float:
    """Mean distance from 1 of the fractions of the true change."""
    fractions = [verdict["value"] for verdict in verdicts if verdict["metric"] == FRACTION]
    return sum(abs(value - 1) for value in fractions) / max(len(fractions), 1)


def open_test(path: Path, test: Path, chosen: Setting) -> None:
    """Remember which setting the test patients are opened with.

    Raises:
        UserError: they were opened with another one.
    """
    wanted = {"setting": str(chosen), "test": hash_file(test)}
    if path.is_file() and (old := read_json(path)) != wanted:
        raise UserError(
            f"{path}: test patients were shown with the setting {old['setting']!r} already; a setting that is chosen"
            " after that needs other patients and another --out."
        )
    write_json(path, wanted)


def _table(judged: Mapping[Setting, Verdicts], chosen: Setting) -> list[str]:
    """A row for each setting: its criteria with their verdicts, and the distance."""
    names = list(dict.fromkeys(_name(verdict) for verdicts in judged.values() for verdict in verdicts))
    lines = [f"| setting | {' | '.join(names)} | distance |", "|---" * (len(names) + 2) + "|"]
    for setting, verdicts in judged.items():
        cells = {_name(verdict): _cell(verdict) for verdict in verdicts}
        mark = f"**{setting}**" if setting == chosen else str(setting)
        row = " | ".join(cells.get(name, "") for name in names)
        lines.append(f"| {mark} | {row} | {number(distance(verdicts))} |")
    return lines


def _name(verdict: Mapping[str, Any]) -> str:
    """What is judged; a fraction of the true change by its finding alone."""
    metric = "" if verdict["metric"] == FRACTION else f", {verdict['metric']}"
    return f"{verdict['attribute']}{metric}"


def _cell(verdict: Mapping[str, Any]) -> str:
    answer = "" if verdict["answer"] == HOLDS else f", {verdict['answer']}"
    return f"{with_interval(verdict['value'], verdict['low'], verdict['high'])}{answer}"
