"""Whether noise and detail of generated images stay those of real ones, whatever the number of sampling steps.

For the conditions of held-out images a model generates an image each, unguided, at several numbers of steps. Inside
each class of the masks (or everywhere) two things are compared with the real images: the roughness, which is the median
distance of a pixel from the mean of its four neighbours, and the energy of four octave bands. With training images, an
encoder is trained on them, and the Frechet distances of its features to the held-out images are compared as well: that
of each number of steps with that of 20 steps, beside a set that is made without a model.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import medloom
from medloom.core.seeds import numpy_generator
from medloom.downstream.ssl import EncoderOptions, train_encoder
from medloom.generators.base import AnyGenerator
from medloom.generators.sampling import DiffusionSampling
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.uncertainty import subsample_interval

BANDS = 4
BATCH = 32
WHOLE = "whole image"
# Steps that others are compared with, and the coverage of two-sided intervals whose upper end is a limit of 90 %.
USUAL, LEVEL = 20, 0.8

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]


def roughness(images: Images, region: Mask) -> float:
    """The median distance of a pixel of a region from the mean of its four neighbours.

    Args:
        images: `(N, C, H, W)`.
        region: `(N, H, W)`.
    """
    inner = images[:, :, 1:-1, 1:-1]
    neighbours = (
        images[:, :, :-2, 1:-1] + images[:, :, 2:, 1:-1] + images[:, :, 1:-1, :-2] + images[:, :, 1:-1, 2:]
    ) / 4
    return float(np.median(np.abs(inner - neighbours).mean(axis=1)[region[:, 1:-1, 1:-1]]))


def band_energies(images: Images, region: Mask) -> NDArray[np.float64]:
    """Mean squares of the differences of Gaussian blurs of 0, 1, 2, 4 and 8 pixels inside a region, finest first."""
    blurs = [images, *(gaussian_filter(images, (0, 0, 2**level, 2**level)) for level in range(BANDS))]
    return np.array([np.square(a - b).mean(axis=1)[region].mean(dtype=np.float64) for a, b in pairwise(blurs)])


def regions_of(
    masks: Sequence[NDArray[np.int64] | None], names: Mapping[int, str], size: tuple[int, ...]
) -> dict[str, Mask]:
    """The classes of the masks by name, or the whole images where there is no mask."""
    if any(mask is None for mask in masks):
        return {WHOLE: np.ones((len(masks), *size), dtype=bool)}
    labels = np.stack([mask for mask in masks if mask is not None]).reshape(len(masks), *size)
    return {names.get(label, f"class {label}"): labels == label for label in map(int, np.unique(labels)) if label > 0}


def generated(model: AnyGenerator, conditions: Sequence[medloom.Condition], steps: int) -> Images:
    """An unguided image a condition, with the seeds 0, 1, ..."""
    sampling, parts = DiffusionSampling(steps=steps, guidance=1.0), []
    for start in range(0, len(conditions), BATCH):
        own = list(conditions[start : start + BATCH])
        parts.append(model.sample(own, list(range(start, start + len(own))), sampling).numpy())
    return np.concatenate(parts)


def without_model(train: Images, groups: Sequence[str | None], asked: Sequence[str | None]) -> Images:
    """The mean training image of each asked group with white noise as strong as its images' deviations from it."""
    rng, known, parts = numpy_generator("without a model", 0), np.array(groups, dtype=object), []
    for group in asked:
        own = train[known == group]
        parts.append(own.mean(axis=0) + own.std() * rng.standard_normal(own.shape[1:]))
    return np.stack(parts).clip(-1, 1).astype(np.float32)


def print_distances(real: Images, made: Mapping[int, Images], none: Images, train: Images) -> None:
    """Print the distance of each number of steps, and how far it is above that of the usual number."""
    encoder = train_encoder(train, EncoderOptions())
    held, poor = encoder.features(real), encoder.features(none)
    features = {steps: encoder.features(images) for steps, images in made.items()}
    rows = np.arange(len(real))
    print(f"\nFrechet distance without a model (class mean and noise): {frechet_distance(held, poor):.3f}")
    print(f"| steps | Frechet distance | minus that of {USUAL} steps, upper 90 % limit |")
    print("|---|---|---|")
    for steps, own in features.items():
        line = f"| {steps} | {frechet_distance(held, own):.3f} |"
        if USUAL in features and steps != USUAL:
            usual = features[USUAL]
            excess = subsample_interval(
                lambda i, j, own=own, usual=usual: (  # type: ignore[misc]
                    frechet_distance(held[i], own[j]) - frechet_distance(held[i], usual[j])
                ),
                rows,
                rows,
                seed=0,
                at="n",
                level=LEVEL,
            )
            line += f" {excess.value:.3f}, {excess.high:.3f}"
        print(f"{line} |")


def main(arguments: list[str]) -> None:
    """Print a row for each number of steps and region: ratios to the real images."""
    parser = argparse.ArgumentParser(prog="benchmarks detail_by_steps", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="held-out images with the model's conditions")
    parser.add_argument("--train", type=Path, help="training images, for the distances")
    parser.add_argument("--text", help="column of the texts")
    parser.add_argument("--mask", help="column of masks in whose classes images are compared")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 40, 100])
    parser.add_argument("--count", type=int, default=96)
    options = parser.parse_args(arguments)
    model = medloom.load(options.model)
    named = {name: own for name in ("text", "mask") if (own := getattr(options, name))}
    need = ("path", *(("mask",) if options.mask else ()))

    def read(path: Path) -> medloom.Manifest:
        return medloom.read_manifest(path, named=named, need=need, need_patients=False, skip_bad=True)

    manifest = read(options.data)
    chosen = np.linspace(0, len(manifest) - 1, min(options.count, len(manifest))).round().astype(int)
    images = medloom.Dataset(manifest, spec=model.spec)
    items = [images[int(place)] for place in chosen]
    everything = model.conditions(manifest)
    conditions = [everything[place] for place in chosen]
    real = np.stack([item["image"].numpy() for item in items])
    masks = [None if item["mask"] is None else item["mask"].numpy() for item in items]
    regions = regions_of(masks, model.masks.names, tuple(model.spec.size))
    print(f"{len(real)} images of {options.data.name}; generated / real")
    print(f"| region | steps | roughness | {' | '.join(f'band {band + 1}' for band in range(BANDS))} |")
    print("|---|" + "---|" * (2 + BANDS))
    made = {}
    for steps in options.steps:
        made[steps] = generated(model, conditions, steps)
        for name, region in regions.items():
            ratios = [roughness(made[steps], region) / roughness(real, region)]
            ratios += list(band_energies(made[steps], region) / band_energies(real, region))
            print(f"| {name} | {steps} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", flush=True)
    if options.train:
        images = medloom.Dataset(read(options.train), spec=model.spec)
        train = np.stack([images[place]["image"].numpy() for place in range(len(images))])
        groups = [sample.condition.modality for sample in read(options.train).samples()]
        print_distances(real, made, without_model(train, groups, [own.modality for own in conditions]), train)
