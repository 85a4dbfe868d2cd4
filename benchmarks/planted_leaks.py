"""Copies planted among synthetic images, exact and changed: how many are counted and listed, and how many others."""

import argparse
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from medloom.data.images import read_image
from medloom.data.tables import write_csv
from medloom.recipes.commands import run_command

PLANTED = 0.05
WINDOW = (-1024.0, 476.0)


def _jpeg(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=60)
    return Image.open(stream)


def _shifted(picture: Image.Image) -> Image.Image:
    by = max(1, round(3 * picture.width / 128))
    return Image.fromarray(np.pad(np.asarray(picture), ((by, 0), (by, 0)), "edge")[:-by, :-by])


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda picture: picture,
    "flipped": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brightened": lambda picture: picture.point([min(255, round(level * 1.15 + 12)) for level in range(256)]),
    "JPEG": _jpeg,
    "shifted by 3 px of 128": _shifted,
}


def main(words: list[str]) -> None:
    """Render a cohort, plant copies, and print what the audit finds by each embedding."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/planted_leaks"))
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--synthetic", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(options)
    sides = np.split(np.arange(len(pictures)), np.cumsum([options.train, options.held_out]))
    manifests = {
        name: _written(options.out, name, [(f"p{row}", pictures[row]) for row in rows])
        for name, rows in zip(("train", "real", "clean"), sides, strict=True)
    }
    planted = _planted(options, pictures, sides)
    for name, manifest in {"clean": manifests["clean"], "planted": planted[0]}.items():
        out = options.out / f"report-{name}"
        given = {"real": manifests["real"], "train": manifests["train"], "synthetic": manifest, "out": out}
        run_command(
            "evaluate images",
            **given,
            only=["privacy"],
            features=["local"],
            label="none",
            image_size=[options.size],
            cache=options.out / "cache",
        )
        print("\n".join(_lines(out, name, planted[1] if name == "planted" else {})))


def _pictures(options: argparse.Namespace) -> list[Image.Image]:
    count = options.train + options.held_out + options.synthetic
    cohort = options.out / "cohort"
    if not (cohort / "truth.csv").is_file():
        run_command("data phantom", out=cohort, patients=count, size=options.size, seed=5)
    found = []
    for name in ("train.csv", "test.csv"):
        for row in csv.DictReader((cohort / name).open()):
            values = read_image(cohort / row["path"]).pixels[0]
            levels = np.clip((values - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1) * 255
            found.append(Image.fromarray(np.rint(levels).astype(np.uint8)))
    return found


def _written(out: Path, name: str, pictures: list[tuple[str, Image.Image]]) -> Path:
    folder = out / name
    folder.mkdir(exist_ok=True)
    rows = []
    for number, (patient, picture) in enumerate(pictures):
        picture.save(folder / f"{number}.png")
        rows.append([f"{number}.png", "CT", patient])
    write_csv(folder / "manifest.csv", ["path", "modality", "patient_id"], rows)
    return folder / "manifest.csv"


def _planted(
    options: argparse.Namespace, pictures: list[Image.Image], sides: list[np.ndarray]
) -> tuple[Path, dict[str, str]]:
    """The synthetic set with copies in its first rows; and how each of their files was changed."""
    count = round(PLANTED * options.synthetic)
    names = list(CHANGES)
    made, how = [], {}
    for number, row in enumerate(sides[2]):
        picture = pictures[row]
        if number < count:
            change = names[number % len(names)]
            picture = CHANGES[change](pictures[sides[0][number * 7 % len(sides[0])]])
            how[f"{number}.png"] = change
        made.append((f"s{row}", picture))
    return _written(options.out, "planted", made), how


def _lines(out: Path, name: str, how: dict[str, str]) -> list[str]:
    figures = json.loads((out / "scores.json").read_text())["metrics"]
    lines = [
        f"{name}, {f['extractor']}: excess {f['value']:.4f} ({f['low']:.4f} to {f['high']:.4f}) of {f['n']}"
        for f in figures
        if f["name"] == "excess of copies"
    ]
    listed: dict[str, set[str]] = {}
    copies = out / "copies-internal.csv"
    for row in csv.DictReader(copies.open()) if copies.is_file() else ():
        listed.setdefault(row["embedding"], set()).add(Path(row["synthetic"]).name)
    for embedding, files in listed.items():
        found = {change: [file in files for file, own in how.items() if own == change] for change in CHANGES}
        given = ", ".join(f"{change} {sum(hits)}/{len(hits)}" for change, hits in found.items() if hits)
        lines.append(f"{name}, {embedding}: listed {given or 'none planted'}; others listed {len(files - set(how))}")
    return lines
