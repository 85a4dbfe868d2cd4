"""Images of a reader study: synthetic ones with their provenance, real ones with names in their metadata."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from medloom.core.image import Image
from medloom.core.spec import GREY, HU
from medloom.data.images import write_image


def _table(path: Path, rows) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _pixels(rng, size):
    return rng.integers(0, 256, size).astype(np.uint8)


def write_synthetic(folder: Path, cases=12, arms=("",), size=(24, 20)) -> Path:
    """Synthetic PNGs as `medloom generate` writes them, with a row for each case and arm."""
    rng, rows = np.random.default_rng(0), []
    (folder / "made").mkdir(parents=True)
    for case in range(cases):
        for arm in arms:
            name = f"made/{case}{arm}.png"
            pixels = _pixels(rng, size)[None].astype(np.float32)
            write_image(folder / name, Image(pixels, GREY, 255.0), {"model": "mine", "seed": str(case)})
            row = {"path": name, "text": f"Effusion {case}.", "modality": "CXR", "patient_id": f"s{case}"}
            rows.append({**row, "arm": arm, "case": f"c{case}"} if arms != ("",) else row)
    return _table(folder / "synthetic.csv", rows)


def write_real(folder: Path, count=12, size=(24, 20), modality="CXR", unit=None) -> Path:
    """Real PNGs whose metadata name a patient."""
    rng, rows = np.random.default_rng(1), []
    (folder / "real").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        chunks = PngInfo()
        chunks.add_text("PatientName", "Doe^Jane")
        name = f"real/doe_{number}.png"
        Pillow.fromarray(_pixels(rng, size)).save(folder / name, pnginfo=chunks)
        rows.append({"path": name, "text": "Normal.", "modality": modality, "patient_id": f"r{number}"})
    return _table(folder / "real.csv", rows)


def write_volumes(folder: Path, name: str, count=4, spacing=1.0, synthetic=True) -> Path:
    """Volumes in HU, as NIfTI."""
    rng, rows = np.random.default_rng(len(name)), []
    (folder / name).mkdir(parents=True)
    for number in range(count):
        values = rng.normal(0, 300, (1, 10, 9, 8)).astype(np.float32)
        affine = np.diag([spacing, spacing, 2.0, 1.0])
        affine[:3, 3] = 17.5 * number
        path = f"{name}/{number}.nii.gz"
        write_image(folder / path, Image(values, HU, affine=affine), {"model": "mine"} if synthetic else {})
        rows.append(
            {"path": path, "text": "Chest.", "modality": "CT", "patient_id": f"{name}{number}", "pixel_unit": HU}
        )
    return _table(folder / f"{name}.csv", rows)
