"""Which edited copies of real images are found among them, and how many images of other patients are listed."""

import argparse
from pathlib import Path

import numpy as np

from medloom.core.seeds import numpy_generator
from medloom.data.dataset import measure_spec
from medloom.data.manifest import read_manifest
from medloom.evaluation.images.copy_search import CopySearch
from medloom.evaluation.images.sets import ImageSet

SETS = ("known", "first", "second")


def main(words: list[str]) -> None:
    """Deal the patients into three sets; edit images of one of them, and look for images of the others in it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/planted_copies"))
    parser.add_argument("--images-are-patients", action="store_true")
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    manifest = read_manifest(options.data, need=("path",), images_are_patients=options.images_are_patients)
    samples = manifest.samples()
    patients = np.unique([sample.patient for sample in samples])
    part = dict(
        zip(patients, numpy_generator("thirds", options.seed).permutation(len(patients)) % len(SETS), strict=True)
    )
    known, *others = (
        ImageSet.of_patients([sample for sample in samples if part[sample.patient] == place], name)
        for place, name in enumerate(SETS)
    )
    search = CopySearch(measure_spec(samples, (64,), "pad"), None, options.out, options.seed, options.planted)
    unrelated = search.unrelated(known)
    print(f"| {len(known)} images of {len(set(known.units))} patients | listed |\n|---|---|")
    for edit, found in search.planted(known, unrelated).items():
        print(f"| {edit} | {found.mean():.3f} of {len(found)} |", flush=True)
    for other in others:
        copies = search.among(other, known, unrelated)
        who = f"no copies: images of {len(set(other.units))} other patients"
        print(f"| {who} | {copies.listed.mean():.4f} of {len(other)} |")
