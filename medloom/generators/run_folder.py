"""Run folders: what stands in them, opening one, and the hash that names its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import explained_content, hash_folder, hash_json, read_mapping, write_json, write_text
from medloom.core.output_folder import empty_folder
from medloom.core.spec import ImageSpec
from medloom.core.table_column import TableColumn
from medloom.data.splits import Split

INDEX = "index.json"
RUN = "run.json"
MODEL = "model"
# Models with the lowest validation losses, and the file that has the losses.
BEST, RANKED = "best", "best.json"
# What run.json has to have, and its types.
DESCRIBED: Mapping[str, type] = {
    "identity": dict,
    "environment": dict,
    "split": dict,
    "inherited_splits": list,
    "images_are_patients": bool,
    "columns": list,
}
CARD = "model_card.md"
FINISHED = "finished.json"


@dataclass(frozen=True)
class RunFolder:
    """A training run on disk.

    Attributes:
        path: the folder.
        step: the folder under `best/` of an earlier model that is used, or empty for the last one.
    """

    path: Path
    step: str = ""

    @property
    def model(self) -> Path:
        """Folder of the trained components."""
        return self.path / BEST / self.step if self.step else self.path / MODEL

    def index(self) -> dict[str, Any]:
        """index.json: family, component classes, exporter.

        Raises:
            UserError: the file is damaged.
        """
        return _mapping(self.path / INDEX, family=str)

    def description(self) -> dict[str, Any]:
        """run.json: every option, versions, fingerprints, ImageSpec, split.

        Raises:
            UserError: the file is damaged.
        """
        values = _mapping(self.path / RUN, **DESCRIBED)
        with explained_content(self.path / RUN):
            ImageSpec.from_dict(values["identity"]["spec"])
            values["identity"]["options"]["loop"]["steps"], values["environment"]["medloom"]
        return values

    def worded_columns(self) -> list[TableColumn]:
        """What its training texts said of the columns of a template; empty of texts that no template worded."""
        with explained_content(self.path / RUN):
            return [TableColumn.from_dict(values) for values in self.description()["columns"]]

    def splits(self) -> list[Split]:
        """The split that it was trained on, and those of the runs that it started from (an autoencoder's, say)."""
        description = self.description()
        with explained_content(self.path / RUN):
            return [Split.from_dict(values) for values in (description["split"], *description["inherited_splits"])]

    def model_hash(self) -> str:
        """A hash over the weights and settings of the model."""
        return hash_folder(self.model)

    def model_stamp(self) -> str:
        """What changes when the model is written again, from sizes and times alone."""
        files = sorted(file for file in self.model.rglob("*") if file.is_file())
        return hash_json([[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files])


@dataclass(frozen=True)
class Components:
    """What index.json says of a model.

    Attributes:
        classes: component -> class.
        exporter: the class of another library that opens the model, or None.
    """

    classes: dict[str, str] = field(default_factory=dict)
    exporter: str | None = None


def open_run(path: Path, families: tuple[str, ...], option: str = "--model") -> RunFolder:
    """Open a run folder for use.

    Args:
        path: the folder.
        families: what it may hold: diffusion, autoencoder, classifier, ...
        option: the option that named it, for errors.

    Raises:
        UserError: not a run folder, of another kind, or one that has no model yet.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{option} {path} is not a folder; give a run folder that `medloom train` wrote.")
    if (run := find_run(path)) is None:
        raise UserError(f"{option} {path} is not a run folder: it has no {INDEX}.")
    family = run.index()["family"]
    if family not in families:
        raise UserError(f"{option} {path} holds a run of the family {family}; this needs {' or '.join(families)}.")
    if not run.model.is_dir():
        raise UserError(
            f"{option} {path} has no model yet: its run was stopped before the first checkpoint;"
            " run the same training command again."
        )
    return run


def find_run(path: Path) -> RunFolder | None:
    """The run of a folder, or None.

    Args:
        path: a run folder; its `best` for the model with the lowest validation loss; or one of those under `best`.

    Raises:
        UserError: `best` has no model.
    """
    if (path / INDEX).is_file():
        return RunFolder(path)
    if path.name == BEST and (path.parent / INDEX).is_file():
        losses = _mapping(path / RANKED) if (path / RANKED).is_file() else {}
        losses = {step: loss for step, loss in losses.items() if (path / step).is_dir()}
        if not losses:
            raise UserError(f"{path} has no model: the run was never validated; give {path.parent}, its last model.")
        with explained_content(path / RANKED):
            return RunFolder(path.parent, min(losses, key=lambda step: float(losses[step])))
    if path.parent.name == BEST and path.is_dir() and (path.parent.parent / INDEX).is_file():
        return RunFolder(path.parent.parent, path.name)
    return None


def runs_among(*places: Path | str | None) -> list[Path]:
    """The runs among the named places: what a new run starts from, and whose patients it has seen."""
    found = (find_run(Path(place)) for place in places if place)
    return [run.path for run in found if run is not None]


def _mapping(path: Path, **needed: type) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Args:
        path: the file.
        needed: names that it has to have, and the types of their values.

    Raises:
        UserError: it holds something else.
    """
    values = read_mapping(path)
    with explained_content(path):
        if not all(isinstance(values[name], kind) for name, kind in needed.items()):
            raise TypeError(values)
    return values


def has_steps(path: Path) -> bool:
    """Whether a run folder holds a checkpoint."""
    return (path / MODEL).is_dir() or any(path.glob("state/step-*"))


def describe_run(path: Path, family: str, index: dict[str, Any], description: dict[str, Any]) -> bool:
    """Write index.json and run.json before the first step, or compare them with those of an earlier start.

    A run may be trained for more steps than it was begun with: run.json then lists the earlier lengths, because the
    decay of the learning rate was another one until there. One that was stopped before its first checkpoint binds
    nobody: with other options it is begun anew.

    Returns:
        Whether the folder already held this run.

    Raises:
        UserError: it holds a run with other options; every difference is shown.
    """
    known = (path / RUN).is_file()
    if known:
        old = _mapping(path / RUN, identity=dict)
        with explained_content(path / RUN):
            longer = _lengthened(old, description["identity"])
        if longer:
            old = longer
        differences = [line.removeprefix("options.") for line in _differences(old["identity"], description["identity"])]
        if differences and has_steps(path):
            raise UserError(
                f"--out {path} holds a run with other options: " + "; ".join(differences) + "."
                " Give the same options to resume it, more --loop.steps to train it longer, or another --out."
            )
        if differences:
            empty_folder(path)
            known = False
        elif longer:
            write_json(path / RUN, longer)
    # What a start that was killed had not written yet.
    for file, values in ((RUN, description), (INDEX, {"family": family, **index})):
        if not (path / file).is_file():
            write_json(path / file, values)
    return known


def write_finished(path: Path, steps: int) -> None:
    """Say that a run has all that belongs to it after so many steps; the last file that it writes."""
    write_json(path / FINISHED, {"steps": steps})


def is_finished(path: Path, steps: int, further: Sequence[str] = ()) -> bool:
    """Whether a run has all that belongs to it after so many steps, `further` files too, and none was removed since."""
    companions = [path / name for name in (RUN, INDEX, CARD, MODEL, *further)]
    if not (path / FINISHED).is_file() or not all(companion.exists() for companion in companions):
        return False
    finished = read_mapping(path / FINISHED)
    with explained_content(path / FINISHED):
        return bool(finished["steps"] >= steps)


def _lengthened(old: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any] | None:
    """A run's description with the larger number of steps that is now asked for; None where it is no larger."""
    before, now = (values["options"].get("loop", {}).get("steps", 0) for values in (old["identity"], identity))
    if now <= before:
        return None
    options = old["identity"]["options"]
    changed = {**options, "loop": {**options["loop"], "steps": now}}
    lengths = [*old.get("begun_with_steps", []), before]
    return {**old, "identity": {**old["identity"], "options": changed}, "begun_with_steps": lengths}


def _differences(old: object, new: object, name: str = "") -> list[str]:
    """What differs; an option that an earlier version did not have counts only where it is in use."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *(key for key in new if new[key])})
            for line in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [f"{name} was {_shown(old)}, now {_shown(new)}"]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


CARD_TEXT = """# Model card

**Research use only.** Images made by this model are SYNTHETIC. They must not be used for diagnosis, treatment or any
other decision about a person.

| | |
|---|---|
| what it makes | {dims}-D images of {size}, {channels} |
| modalities | {modalities} |
| training images | {images} |
| optimiser steps | {steps} |

## Limits
- It shows what its training data showed, with their biases; conditions that were rare in them are drawn badly.
- It may repeat training images. Audit a release against the training set first.
- A text that asks for a finding does not guarantee that the image shows it.

## Intensities
{intensities}
"""


def write_card(run: Path, spec: ImageSpec, images: int, steps: int) -> None:
    """Write model_card.md to a run folder."""
    rows = [
        f"- {name}: {entry.low:g} to {entry.high:g} {entry.unit}"
        if entry.kind == "window"
        else f"- {name}: each image's own percentiles {entry.low:g} to {entry.high:g}; generated in relative units"
        for name, entry in sorted(spec.intensity.items())
    ]
    size = f"{' x '.join(map(str, spec.size))} pixels"
    text = CARD_TEXT.format(
        dims=spec.spatial_dims,
        size=f"their mask's size, from windows of {size}" if spec.patch else size,
        channels="colour" if spec.channels == 3 else "grey",
        modalities=", ".join(sorted(spec.intensity)),
        images=images,
        steps=steps,
        intensities="\n".join(rows),
    )
    write_text(run / CARD, text)
