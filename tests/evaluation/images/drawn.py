"""Sets of drawn images: discs and squares, light on dark or dark on light, two images a patient."""

from pathlib import Path

import numpy as np
from PIL import Image

from medloom.data.manifest import Manifest, read_manifest

KINDS, GROUNDS = ("disc", "square"), ("dark", "light")
SIZE = 16


def picture(rng: np.random.Generator, kind: str, ground: str) -> np.ndarray:
    """One image, uint8 `(SIZE, SIZE)`."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    row, column = rng.uniform(6, SIZE - 6, 2)
    away = np.hypot(rows - row, columns - column), np.maximum(abs(rows - row), abs(columns - column))
    inside = away[KINDS.index(kind)] < (5.2, 3.4)[KINDS.index(kind)]
    levels = rng.normal(30, 6, (SIZE, SIZE)) + inside * rng.uniform(120, 180)
    return np.clip(levels if ground == "dark" else 255 - levels, 0, 255).astype(np.uint8)


def drawn_set(
    folder: Path,
    count: int,
    seed: int,
    *,
    kinds: tuple[str, ...] = KINDS,
    swapped: bool = False,
    patients: bool = True,
) -> Path:
    """Write `count` images and their manifest; `swapped` draws the other shape than the label says."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = ["sample_id,path,text,modality,label,seed" + (",patient_id" if patients else "")]
    for number in range(count):
        kind, ground = kinds[number // 2 % len(kinds)], GROUNDS[number // 4 % 2]
        shown = KINDS[1 - KINDS.index(kind)] if swapped else kind
        Image.fromarray(picture(rng, shown, ground)).save(folder / f"{number}.png")
        line = f"s{number},{number}.png,A {kind} on {ground}.,{ground},{kind},{number}"
        lines.append(line + (f",{folder.name}-{number // 2}" if patients else ""))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


def read(path: Path, patients: bool = True) -> Manifest:
    """The manifest as evaluation reads it."""
    return read_manifest(path, need=("path",), need_patients=patients)
