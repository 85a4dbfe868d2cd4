"""How far a lesion goes in the image when its mask moves.

Of each row's mask the largest lesion is kept. Images are made with the same seeds of the mask as it is, with that
lesion moved towards the middle, and without it. What the lesion adds is the image with it less the image without it;
where that is, is its centre, weighted by what is above half of its maximum.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medloom.core.config import configure
from medloom.core.pictures import grid
from medloom.core.spec import GREY
from medloom.data.image_io.types import Image
from medloom.data.images import read_image, write_image
from medloom.data.options import ManifestOptions, load_manifest
from medloom.data.tables import write_csv
from medloom.metrics.uncertainty import bootstrap_mean
from medloom.recipes import generate

WAYS = ("kept", "moved", "without")
ENOUGH = 0.8


@dataclass(frozen=True, eq=False)
class Lesion:
    """One row's lesion.

    Attributes:
        patient: whose it is.
        maps: label maps by way.
        move: pixels along each axis by which it is moved.
        told: the row's text and modality.
    """

    patient: str
    maps: dict[str, NDArray[np.uint8]]
    move: NDArray[np.float64]
    told: tuple[str, str]


def main(words: list[str]) -> None:
    """Make the images and print how much of the masks' moves the lesions made."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="held-out rows with masks")
    parser.add_argument("--labels", type=int, nargs="+", required=True, help="of lesions")
    parser.add_argument("--mask-column", default=None)
    parser.add_argument("--move", type=float, default=0.12, help="share of the image's diagonal")
    parser.add_argument("--smallest", type=float, default=0.001, help="share of the image that a lesion has at least")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/moved_masks"))
    options = parser.parse_args(words)
    lesions = _lesions(options)
    images = {way: _made(options, lesions, way) for way in WAYS}
    shares = []
    for number, lesion in enumerate(lesions):
        where = [_centre(images[way][number], images["without"][number]) for way in ("kept", "moved")]
        # Whole images are padded to the model's size; a mask has its own.
        move = lesion.move * max(images["kept"][number].shape[1:]) / max(lesion.maps["kept"].shape)
        went = float((where[1] - where[0]) @ move / (move @ move))
        # A lesion that adds nothing to the image has not gone anywhere.
        went = went if np.isfinite(went) else 0.0
        shares.append(went)
        print(f"{lesion.patient}: moved by {np.round(lesion.move, 1).tolist()} pixels, went {went:.2f} of that")
    values = np.array(shares)
    found = bootstrap_mean(values, [lesion.patient for lesion in lesions], 0)
    print(
        f"{len(lesions)} lesions: median {np.median(values):.2f}, mean {found.value:.2f} ({found.low:.2f} to"
        f" {found.high:.2f}) of the mask's move; at least {ENOUGH} in {np.mean(values >= ENOUGH):.0%}"
    )
    _picture(options.out / "moved.png", lesions, images)


def _lesions(options: argparse.Namespace) -> list[Lesion]:
    manifest = load_manifest(options.data, ManifestOptions(mask_column=options.mask_column), ("path", "mask"))
    found = []
    for row in manifest.frame.fillna("").to_dict("records"):
        if not row["mask"]:
            continue
        labels = read_image(Path(row["mask"])).pixels[0].round().astype(np.uint8)
        lesion = _largest(np.isin(labels, options.labels))
        if lesion.mean() < options.smallest:
            continue
        centre = np.array(ndimage.center_of_mass(lesion))
        away = (np.array(lesion.shape) - 1) / 2 - centre
        length = options.move * np.hypot(*lesion.shape)
        step = np.rint(away / max(np.hypot(*away), 1e-9) * length).astype(int)
        rest = np.where(np.isin(labels, options.labels), 0, labels)
        shifted = ndimage.shift(np.where(lesion, labels, 0), step, order=0)
        maps = {
            "kept": np.where(lesion, labels, rest),
            "moved": np.where(shifted > 0, shifted, rest),
            "without": rest,
        }
        told = (str(row.get("text", "")), str(row.get("modality", "")))
        found.append(Lesion(str(row["patient_id"]), maps, step.astype(float), told))
    return found


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, parts, range(1, count + 1))
    return parts == 1 + int(np.argmax(sizes)) if count else mask


def _made(options: argparse.Namespace, lesions: Sequence[Lesion], way: str) -> list[NDArray[np.float64]]:
    """Images of each lesion `(seeds, *spatial)`, channels averaged."""
    folder = options.out / f"masks-{way}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, lesion in enumerate(lesions):
        name = f"{number:04d}.png"
        values = lesion.maps[way][None].astype(np.float32)
        write_image(folder / name, Image(values, GREY, 255.0), {})
        rows.append([name, *lesion.told])
    write_csv(folder / "conditions.csv", ["mask", "Text", "modality"], rows)
    out = options.out / way
    generate.run(configure(generate.Config, model=options.model, data=folder / "conditions.csv", out=out, n=options.n))
    paths = sorted(out.glob("[0-9]*.png"))
    made = [read_image(path).pixels.mean(axis=0).astype(np.float64) for path in paths]
    return [np.stack(made[start : start + options.n]) for start in range(0, len(made), options.n)]


def _centre(images: NDArray[np.float64], without: NDArray[np.float64]) -> NDArray[np.float64]:
    added = ndimage.gaussian_filter((images - without).mean(axis=0), 1.0)
    added = added * np.sign(added.flat[np.abs(added).argmax()])
    return np.array(ndimage.center_of_mass(np.where(added > added.max() / 2, added, 0.0)))


def _picture(path: Path, lesions: Sequence[Lesion], images: dict[str, list[NDArray[np.float64]]]) -> None:
    """Without, with, and with the lesion moved, a row each."""
    from PIL import Image as Picture

    shown = [images[way][number][0][None] / 127.5 - 1 for number in range(min(8, len(lesions))) for way in WAYS]
    Picture.fromarray(grid(shown, len(WAYS))).save(path)
