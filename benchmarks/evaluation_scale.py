"""A whole evaluation of large sets, and the search for copies alone: minutes by section, and peak memory."""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.data.tables import write_csv
from medloom.evaluation.images.section import Found, Inputs
from medloom.evaluation.images.sections import SECTIONS
from medloom.recipes.commands import run_command

SETS = ("train", "real", "synthetic")
A_PATIENT = 2
# Radius of the texture in cycles an image, and its contrast.
CYCLES, CONTRAST = 12, 0.12


def main(words: list[str]) -> None:
    """Make three sets of bodies, evaluate the third from nothing, and print minutes by section and the peak memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000, help="of each of the three sets")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--only", nargs="*", default=None, help="sections (default: copies, then all from nothing)")
    parser.add_argument("--without-train", action="store_true", help="two sets: no training images are named")
    parser.add_argument("--out", type=Path, help="where to keep images and reports (default: nowhere)")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = options.out or Path(name)
        started = time.perf_counter()
        named = [what for what in SETS if what != "train" or not options.without_train]
        sets = {what: write_bodies(root / what, options.images, options.size, what) for what in named}
        each = f"{options.images} images of {options.size} px in each of {len(sets)} sets"
        print(f"{each}: {_minutes(started)} to write them\n")
        print("| run | part | minutes | peak memory so far, GB |\n|---|---|---|---|")
        for run, only in (("copies", ["copies"]), ("all", [])) if options.only is None else (("chosen", options.only),):
            measure(run, only, sets, root / f"report-{run}")


def measure(run: str, only: list[str], sets: dict[str, Path], out: Path) -> None:
    """Evaluate, and print a row for each section and one for the whole.

    Args:
        run: its name.
        only: sections; none for all.
        sets: manifests by option.
        out: folder of the report.
    """
    whole = dict(SECTIONS)
    started = time.perf_counter()
    try:
        # The command reads the table of sections when it runs.
        SECTIONS.update(
            {name: replace(own, measure=partial(_timed, run, name, own.measure)) for name, own in whole.items()}
        )
        run_command("evaluate images", **sets, out=out, only=only)
    finally:
        SECTIONS.update(whole)
    _row(run, "everything", started)


def _timed(run: str, name: str, measured: Callable[[Inputs], Found], inputs: Inputs) -> Found:
    started = time.perf_counter()
    found = measured(inputs)
    _row(run, name, started)
    return found


def _row(run: str, part: str, started: float) -> None:
    # Kilobytes, but bytes on a Mac.
    unit = 1e9 if sys.platform == "darwin" else 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(f"| {run} | {part} | {_minutes(started)} | {peak:.2f} |", flush=True)


def _minutes(started: float) -> str:
    return f"{(time.perf_counter() - started) / 60:.1f} min"


def write_bodies(folder: Path, count: int, pixels: int, name: str) -> Path:
    """Write a set with a manifest that is kept if it is there.

    Args:
        folder: where to; gets images/ and manifest.csv.
        count: images.
        pixels: of each axis.
        name: of the set; another one has other patients.

    Returns:
        The manifest's path.
    """
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return manifest
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    with progress(f"writing {name} images", count, "images") as advance:
        for number in range(count):
            patient = number // A_PATIENT
            path = f"images/{number:06d}.png"
            levels, is_wide = body(name, patient, number, pixels)
            Image.fromarray(levels).save(folder / path, compress_level=1)
            rows.append((path, "A chest.", "X-ray", f"{name}-{patient}", "wide" if is_wide else "narrow"))
            advance()
    write_csv(manifest, ("path", "Text", "modality", "patient_id", "label"), rows)
    return manifest


def body(name: str, patient: int, number: int, pixels: int) -> tuple[NDArray[np.uint8], bool]:
    """An ellipse with two dark ones in it and a fine structure, and whether it is wide: uint8 `(pixels, pixels)`.

    The shape is the patient's, the structure and the noise are the image's, so that no image is a copy of another.
    """
    shape, own = numpy_generator("shape", name, patient), numpy_generator("structure", name, number)
    rows, columns = np.mgrid[:pixels, :pixels] / pixels - 0.5
    width = shape.uniform(0.11, 0.19)
    image = 0.7 * (rows**2 / shape.uniform(0.17, 0.22) + columns**2 / width < 1)
    for side in (-1, 1):
        down, across = shape.normal(0, 0.03), side * shape.uniform(0.15, 0.2)
        radius = shape.uniform(0.06, 0.1) / 4
        image[(rows - down) ** 2 / 0.08 + (columns - across) ** 2 / radius < 1] = 0.2
    noise = np.fft.rfft2(own.standard_normal((pixels, pixels)))
    cycles = np.hypot(np.fft.fftfreq(pixels, 1 / pixels)[:, None], np.fft.rfftfreq(pixels, 1 / pixels)[None])
    structure = np.fft.irfft2(noise * np.exp(-((cycles / CYCLES) ** 2)), s=(pixels, pixels))
    image += CONTRAST * structure / structure.std() + own.normal(0, 0.02, (pixels, pixels))
    return np.asarray(np.clip(np.rint(255 * image), 0, 255), np.uint8), bool(width > 0.15)
