"""True images that went through an autoencoder or a tokenizer: what it loses before any generator is asked."""

import csv
from pathlib import Path

import torch

from medloom.data.dataset import read_sample
from medloom.data.images import read_image, write_image
from medloom.data.tables import write_csv
from medloom.data.transforms import from_model
from medloom.generators.autoencoder.quality import Autoencoder, reconstruct
from medloom.generators.autoencoder.storage import VAE, VQ, kind_of, load_spec
from medloom.generators.run_folder import open_run
from medloom.networks.autoencoder import load_autoencoder
from medloom.networks.tokenizer import load_tokenizer


def through_coder(table: Path, run: Path, out: Path) -> Path:
    """Write reconstructions of a table's images.

    Args:
        table: CSV with path, mask if there is one, and modality.
        run: folder of `medloom train autoencoder`.
        out: gets the images and manifest.csv, which has the table's columns.

    Returns:
        The new manifest.
    """
    found = open_run(run, ("autoencoder",))
    spec, device = load_spec(found.model), torch.device("cpu")
    coder: Autoencoder
    coder = load_tokenizer(found.model / VQ) if kind_of(found.model) == "vq" else load_autoencoder(found.model / VAE)
    coder.eval()
    out.mkdir(parents=True, exist_ok=True)
    with table.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for number, row in enumerate(rows):
        path = table.parent / row["path"]
        sample = read_sample(path, spec, row["modality"])
        array = reconstruct(coder, sample.array[None], device)[0]
        image = from_model(array, spec, row["modality"], sample.parameters, read_image(path))
        row["path"] = str((out / f"{number:05d}{''.join(path.suffixes)}").resolve())
        write_image(Path(row["path"]), image, {"model": run.name})
        if "mask" in row:
            row["mask"] = str((table.parent / row["mask"]).resolve())
    write_csv(out / "manifest.csv", tuple(rows[0]), [tuple(row.values()) for row in rows])
    return out / "manifest.csv"
