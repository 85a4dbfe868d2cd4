"""What a folder of generated images holds, and which of the images that are asked for it lacks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.config import plain
from medloom.core.errors import UserError
from medloom.core.files import (
    explained_content,
    hash_json,
    is_written,
    known_content,
    read_mapping,
    write_json,
)
from medloom.core.output_folder import LOCK
from medloom.data.images import read_image, read_provenance
from medloom.generation.options import GenerationOptions
from medloom.generators.generated_images import FORMATS, VERSION, GeneratedImage
from medloom.generators.sampling import SamplingOptions

if TYPE_CHECKING:
    from medloom.generation.requests import Request

MANIFEST = "manifest.csv"
# What may differ when a folder is continued: where things lie and run, not what is generated.
FREE = ("out", "device", "batch", "windows", "model", "with_text")
# What is compared image by image: of tables and images the contents, and how many there are.
BY_IMAGE = ("data", "template", "mask", "image", "region", "n", "rows", "count")
# What all images of a folder have in common.
MODEL = ("model", "spec", "classes")
# Texts of a condition; only a hash of them is written unless provenance is full.
TEXTS = ("prompt", "text", "negative", "nochange_text")


def stated_options(options: GenerationOptions, resolved: Mapping[str, object]) -> dict[str, Any]:
    """The options that say what is generated, with those that were resolved."""
    return {name: value for name, value in plain({**asdict(options), **resolved}).items() if name not in FREE}


def depends_on(options: GenerationOptions, sampling: SamplingOptions, without: frozenset[str]) -> dict[str, object]:
    """All that an image depends on besides its model, condition and seed; of a label map its content."""
    edit = options.edit
    region = edit.region if edit.label_map is None else known_content(Path(str(edit.label_map)))
    return {
        "sampling": plain(asdict(sampling)),
        "edit": [edit.start, edit.strength, region, edit.residual],
        "framing": [options.crops, options.overlap],
        "unit": options.unit,
        "without": sorted(without),
        "provenance": options.provenance,
    }


def missing_images(
    options: GenerationOptions,
    requests: "Sequence[Request]",
    wanted: Mapping[int, GeneratedImage],
    suffix: str,
    total: int,
) -> "list[Request]":
    """The requests whose images are not there yet.

    Raises:
        UserError: an image that is there was made from something else, or is not asked for any more.
    """
    full, todo, others = options.provenance == "full", [], []
    for request in requests:
        path, image = options.out / f"{request.sample_id}{suffix}", wanted[request.number]
        found = _provenance(path)
        if found is None:
            todo.append(request)
        elif any(found.get(name) != value for name, value in image.provenance(full).items() if name != VERSION):
            others.append(path.name)
    others += [path.name for path in numbered_images(options.out, suffix) if int(path.name[: -len(suffix)]) >= total]
    if others:
        raise UserError(
            f"--out {options.out} holds images made from other rows, files or options than are asked for now"
            f" ({len(others)}, {min(others)} the first): the table, its masks or prior images have changed, or fewer"
            " images are asked for. Delete these files to make them again, or name another folder."
        )
    return todo


def numbered_images(folder: Path, *suffixes: str) -> list[Path]:
    """The images of a folder, by their names; without suffixes those of every format."""
    endings = "|".join(re.escape(suffix) for suffix in suffixes or FORMATS.values())
    return sorted(path for path in folder.iterdir() if re.fullmatch(rf"\d{{6,}}({endings})", path.name))


def _provenance(path: Path) -> dict[str, str] | None:
    """What an image that is there says of itself; None where there is none, or only a part of one."""
    if not is_written(path):
        return None
    try:
        # The provenance lies before the pixels in most formats.
        read_image(path)
        return read_provenance(path)
    except UserError:
        # Cut short by a power failure: it is made again.
        return None


def require_same_kind(
    options: GenerationOptions, file: str, facts: Mapping[str, object], given: Mapping[str, object]
) -> None:
    """Refuse to mix images of two models, or of other options, in a folder; one without images binds nobody.

    Raises:
        UserError: names the options.
    """
    path = options.out / file
    if not path.is_file() or not numbered_images(options.out):
        return
    old = read_mapping(path)
    with explained_content(path):
        before, now = dict(old.get("options", {})), _recorded(options, given)
    if changed := [name for name in {**before, **now} if name not in BY_IMAGE and before.get(name) != now.get(name)]:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"--out {options.out} holds images made with other options ({named}); name another folder.")
    if any(old.get(name) != facts.get(name) for name in MODEL):
        raise UserError(f"--out {options.out} holds images made with another model; name another folder.")


def describe(options: GenerationOptions, file: str, facts: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Write what the folder holds; the manifest of fewer or other images goes."""
    path, now = options.out / file, {**facts, "options": _recorded(options, given)}
    if path.is_file() and read_mapping(path) == now:
        return
    (options.out / MANIFEST).unlink(missing_ok=True)
    write_json(path, now)


def require_described(out: Path, file: str) -> None:
    """Refuse a folder of images whose description was deleted, and say what can be done with it.

    Raises:
        UserError: names the file and the first image.
    """
    # The lock is of a command that was killed before it wrote the description.
    if not out.is_dir() or (out / file).exists() or (out / LOCK).exists():
        return
    images = numbered_images(out)
    if images and _provenance(images[0]):
        raise UserError(
            f"--out {out} holds images made by medloom ({images[0].name} the first) but no {file}, which says what they"
            f" were made with: put {file} back, delete the images to make them again, or name another folder."
        )


def forget_without_images(out: Path, file: str) -> None:
    """Remove the description of a folder in which no image was made."""
    if not numbered_images(out):
        (out / file).unlink(missing_ok=True)


def _recorded(options: GenerationOptions, given: Mapping[str, object]) -> dict[str, object]:
    """The options as the folder's file has them: of texts a hash, unless all is to be written."""
    hidden = TEXTS if options.provenance != "full" else ()
    return {name: hash_json(value) if name in hidden and value is not None else value for name, value in given.items()}
