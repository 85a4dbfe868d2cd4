"""How far a lesion goes in the image when its mask moves.

Of each row's mask the largest lesion is kept. Images are made with the same seeds of the mask as it is, with that
lesion moved towards the middle, and without it. Where a lesion is in the mean image of the seeds is sought everywhere,
its mask's place not given: where its shape, a frame of as much around it counting against, correlates most with the
image. As a control it is sought in the images without it: how often something is found by chance where it was moved to.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medloom.core.image import Image
from medloom.core.sheets import Sheet
from medloom.core.spec import GREY, ImageSpec
from medloom.core.tile_texts import MARK
from medloom.core.tiles import Tile, TileColumn
from medloom.data.images import read_image, write_image
from medloom.data.manifest import ManifestOptions, load_manifest
from medloom.data.masks import read_labels
from medloom.data.tables import write_csv
from medloom.generators.storage import load
from medloom.metrics.uncertainty import bootstrap_mean
from medloom.recipes.commands import run_command

WAYS = ("kept", "moved", "without")
ENOUGH = 0.8
NEAR = 2  # pixels


@dataclass(frozen=True, eq=False)
class Lesion:
    """One row's lesion.

    Attributes:
        patient: whose it is.
        maps: label maps by way.
        labels: its labels.
        condition: the row's text and modality.
    """

    patient: str
    maps: dict[str, NDArray[np.uint8]]
    labels: tuple[int, ...]
    condition: tuple[str, str]


def main(words: list[str]) -> None:
    """Make the images and print how much of the masks' moves the lesions made."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="held-out rows with masks")
    parser.add_argument("--labels", type=int, nargs="+", required=True, help="of lesions")
    parser.add_argument("--mask-column", help="column of the masks, where it has another name")
    parser.add_argument("--move", type=float, default=0.12, help="share of the image's diagonal")
    parser.add_argument("--smallest", type=float, default=0.001, help="share of the image that a lesion has at least")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/moved_masks"))
    options = parser.parse_args(words)
    lesions = _lesions(options)
    images = {way: _made(options, lesions, way) for way in WAYS}
    spec = load(options.model, "cpu").spec
    went: list[float] = []
    there: dict[str, list[bool]] = {"moved": [], "without": []}
    for number, lesion in enumerate(lesions):
        shape = _on_grid(options.out / "masks-kept" / f"{number:04d}.png", spec, lesion.labels)
        move = _shift_of(shape, _on_grid(options.out / "masks-moved" / f"{number:04d}.png", spec, lesion.labels))
        means = {way: images[way][number].mean(axis=0) for way in WAYS}
        sign = _contrast_sign(means["kept"], shape)
        start = _place(sign * means["kept"], shape)
        for way, found in there.items():
            place = _place(sign * means[way], shape)
            found.append(bool(np.hypot(*(place - move)) <= NEAR))
            if way == "moved":
                went.append(float((place - start) @ move / (move @ move)))
        print(f"{lesion.patient}: moved by {np.round(move, 1).tolist()} pixels, went {went[-1]:.2f} of that")
    print(_line(np.array(went), [lesion.patient for lesion in lesions]))
    shares = ", ".join(f"{way} {np.mean(found):.0%}" for way, found in there.items())
    print(f"found within {NEAR} pixels of where it was moved to: {shares}")
    _picture(options.out / "moved.png", lesions, images)


def _line(values: NDArray[np.float64], patients: Sequence[str]) -> str:
    spread = ""
    if len(set(patients)) > 1:
        found = bootstrap_mean(values, patients, 0)
        spread = f" ({found.low:.2f} to {found.high:.2f})"
    return (
        f"{len(values)} lesions of {len(set(patients))} patients: median {np.median(values):.2f}, mean"
        f" {values.mean():.2f}{spread} of the mask's move; at least {ENOUGH} in {np.mean(values >= ENOUGH):.0%}"
    )


def _lesions(options: argparse.Namespace) -> list[Lesion]:
    columns = {"mask": options.mask_column} if options.mask_column else {}
    manifest = load_manifest(options.data, ManifestOptions(columns=columns), ("path", "mask"))
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
        condition = (str(row.get("text", "")), str(row.get("modality", "")))
        found.append(Lesion(str(row["patient_id"]), maps, tuple(np.unique(labels[lesion]).tolist()), condition))
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
        rows.append([name, *lesion.condition])
    write_csv(folder / "conditions.csv", ["mask", "Text", "modality"], rows)
    out = options.out / way
    run_command("generate", model=options.model, data=folder / "conditions.csv", out=out, n=options.n)
    paths = sorted(out.glob("[0-9]*.png"))
    made = [read_image(path).pixels.mean(axis=0).astype(np.float64) for path in paths]
    return [np.stack(made[start : start + options.n]) for start in range(0, len(made), options.n)]


def _on_grid(path: Path, spec: ImageSpec, labels: Sequence[int]) -> NDArray[np.bool_]:
    """The lesion as the model saw it."""
    return _largest(np.isin(read_labels(path, spec), labels))


def _shift_of(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = np.array([ndimage.center_of_mass(region) for region in (one, other)], np.float64)
    shift: NDArray[np.float64] = centres[1] - centres[0]
    return shift


def _frame(shape: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As much around the lesion as it has itself, at least a pixel."""
    frame = shape
    while frame.sum() < 2 * shape.sum():
        frame = ndimage.binary_dilation(frame)
    return np.asarray(frame & ~shape)


def _contrast_sign(image: NDArray[np.float64], shape: NDArray[np.bool_]) -> float:
    """Whether the lesion is brighter than what is around it."""
    return float(np.sign(image[shape].mean() - image[_frame(shape)].mean())) or 1.0


def _place(image: NDArray[np.float64], shape: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where the lesion's shape correlates most with the image: the shift from the shape's own place."""
    inside, frame = (part.astype(float) for part in (shape, _frame(shape)))
    template = inside / inside.sum() - frame / frame.sum()
    support = (inside + frame) / (inside + frame).sum()
    contrast = _correlated(image, template)
    spread = np.sqrt(np.maximum(_correlated(image**2, support) - _correlated(image, support) ** 2, 0))
    found = contrast / (spread + 0.05 * image.std())
    best = np.array(np.unravel_index(int(found.argmax()), found.shape))
    half = np.array(found.shape) // 2
    shift: NDArray[np.float64] = ((best + half) % np.array(found.shape) - half).astype(np.float64)
    return shift


def _correlated(image: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of image times template at each shift, with the borders wrapped."""
    return np.fft.irfft2(np.fft.rfft2(image) * np.conj(np.fft.rfft2(template)), image.shape)


def _picture(path: Path, lesions: Sequence[Lesion], images: dict[str, list[NDArray[np.float64]]]) -> None:
    """With the lesion as its mask is, moved and without, a row each."""
    count = min(8, len(lesions))
    columns = [
        TileColumn(
            f"mask {way}",
            [Tile(images[way][number][0][None].astype(np.float32) / 127.5 - 1) for number in range(count)],
        )
        for way in WAYS
    ]
    Sheet(f"{MARK}: lesions and their masks", columns, [f"row {number}" for number in range(1, count + 1)]).save(path)
