"""Registration: known motions found again, lung masks of real pairs before and after, and time.

Known motions: of each X-ray the inner 75 % is the later image. The earlier one is a window of the same size, sampled
from the whole X-ray where the inverse motion puts it, with another gamma, contrast, brightness and noise. It shows what
lies beside the inner window, so that no border of the motion's own making gives the motion away; where it reaches
beyond the X-ray itself, edge values continue, and the fraction of such pixels is reported.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloom.core.image import FloatArray, Image
from medloom.core.seeds import numpy_generator
from medloom.core.spec import RELATIVE
from medloom.data.images import read_image
from medloom.data.masks import read_mask
from medloom.longitudinal.registration import (
    ImagePair,
    PairResult,
    Registration,
    RegistrationOptions,
    apply_to_labels,
    failures,
    register,
    register_pairs,
    registration_sheet,
)
from medloom.longitudinal.registration.geometry import Motion, sample, sample_nearest, similarity
from medloom.metrics.uncertainty import bootstrap_mean

INNER = 0.75
SHIFT, TURN, GROWTH = 0.10, 10.0, 0.10  # share of the window's axis, degrees, share
NEAR = (2.0, 2.0, 0.02)  # px, degrees, share
GAMMA, CONTRAST, BRIGHTNESS, NOISE = (0.6, 1.6), (0.7, 1.0), (0.0, 0.15), 0.02
ROWS = 12  # of the picture
TIMED = 32  # pairs whose registration alone is timed


@dataclass(frozen=True)
class Known:
    """One X-ray with a known motion.

    Attributes:
        errors: px, degrees and share of scale by which the motion found is off.
        passed: whether registration says that it passed.
        beyond: share of the prior image's pixels that lay beyond the X-ray.
        seconds: of the registration.
    """

    errors: tuple[float, float, float]
    passed: bool
    beyond: float
    seconds: float

    @property
    def near(self) -> bool:
        """Whether all three are within NEAR."""
        return all(error < limit for error, limit in zip(self.errors, NEAR, strict=True))


def main(words: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="table of X-rays: path, patient_id")
    parser.add_argument("--pairs", type=Path, help="table: prior_path, path, patient_id, prior_mask_path, mask_path")
    parser.add_argument("--limit", type=int, default=None, help="rows of each table")
    parser.add_argument("--timed", type=int, default=0, help="pairs of any two X-rays of --data, for the time alone")
    parser.add_argument("--transform", default="similarity")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/registration"))
    options = parser.parse_args(words)
    chosen = RegistrationOptions(transform=options.transform)
    print("| what | value |\n|---|---|")
    if options.data and options.timed:
        _scaling(_rows(options.data, options.limit), chosen, options)
    elif options.data:
        _known_motions(_rows(options.data, options.limit), chosen)
    if options.pairs:
        _real_pairs(_rows(options.pairs, options.limit), chosen, options)


def _rows(table: Path, limit: int | None) -> list[dict[str, Any]]:
    """Rows, paths made whole."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    for name in ("path", "prior_path", "mask_path", "prior_mask_path"):
        if name in frame:
            frame[name] = [str(table.parent / value) if value else "" for value in frame[name]]
    return [
        {str(name): value for name, value in row.items()} for row in frame.head(limit or len(frame)).to_dict("records")
    ]


def _known_motions(rows: Sequence[dict[str, Any]], options: RegistrationOptions) -> None:
    seen = [_known(read_image(Path(row["path"])), number, options) for number, row in enumerate(rows)]
    patients = [row["patient_id"] for row in rows]
    near = bootstrap_mean(np.array([one.near for one in seen], dtype=float), patients, 0)
    errors = np.array([one.errors for one in seen])
    beyond = np.array([one.beyond for one in seen])
    halves, most = np.median(errors, axis=0), np.quantile(errors, 0.95, axis=0)
    said = f"{near.value:.1%} ({near.low:.1%} to {near.high:.1%})"
    print(f"| found within 2 px, 2 degrees, 2 %: of {len(seen)} X-rays | {said} |")
    print(f"| passed by its own rules | {np.mean([one.passed for one in seen]):.1%} |")
    print(f"| of those not found, passed | {sum(one.passed and not one.near for one in seen)} |")
    for name, half, high, unit in zip(("shift", "rotation", "scale"), halves, most, ("px", "°", ""), strict=True):
        print(f"| error of {name}, median and 95 % | {half:.3g} and {high:.3g} {unit} |")
    print(f"| pixels beyond the X-ray, mean and most | {beyond.mean():.1%} and {beyond.max():.1%} |")
    print(f"| seconds a pair, median | {np.median([one.seconds for one in seen]):.3f} |")


def _known(image: Image, number: int, options: RegistrationOptions) -> Known:
    rng = numpy_generator("registration benchmark", number)
    window = tuple(round(INNER * length) for length in image.size)
    grey = image.pixels.mean(axis=0, keepdims=True) / np.float32(image.full_scale)
    truth = Motion(
        tuple((rng.uniform(-SHIFT, SHIFT, 2) * window).tolist()),
        (float(rng.uniform(-TURN, TURN)),),
        float(rng.uniform(1 - GROWTH, 1 + GROWTH)),
        "px",
    )
    motion = similarity(truth.translation, truth.rotation, truth.scale, (0.0, 0.0))
    places = [_placed(image.size, window, matrix) for matrix in (motion, np.eye(3))]
    earlier, later = (sample(grey, matrix, window) for matrix in places)
    within = sample_nearest(np.ones(image.size, np.uint8), places[0], window, 0)
    started = time.perf_counter()
    found = register(Image(_exposed(earlier, rng), RELATIVE), Image(later, RELATIVE), options)
    seconds = time.perf_counter() - started
    return Known(_errors(found.motion, truth), found.passed, 1 - float(within.mean()), seconds)


def _placed(size: tuple[int, ...], window: tuple[int, ...], motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Index of the window to index of the X-ray: the motion about their common centre."""
    to_centre, from_centre = np.eye(3), np.eye(3)
    to_centre[:2, 2] = [-(length - 1) / 2 for length in window]
    from_centre[:2, 2] = [(length - 1) / 2 for length in size]
    return from_centre @ motion @ to_centre


def _exposed(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """As another exposure and detector would show it."""
    changed = np.clip(values, 0, 1) ** rng.uniform(*GAMMA) * rng.uniform(*CONTRAST) + rng.uniform(*BRIGHTNESS)
    return np.clip(changed + NOISE * rng.standard_normal(values.shape), 0, 1).astype(np.float32)


def _errors(found: Motion, truth: Motion) -> tuple[float, float, float]:
    shift = float(np.linalg.norm(np.subtract(found.translation, truth.translation)))
    return shift, abs(found.rotation[0] - truth.rotation[0]), abs(found.scale / truth.scale - 1)


def _scaling(rows: Sequence[dict[str, Any]], chosen: RegistrationOptions, options: argparse.Namespace) -> None:
    """Time of many pairs of different X-rays, by the number of workers; most are of two patients, and fail."""
    paths = [Path(row["path"]) for row in rows]
    apart = range(1, len(paths))
    pairs = [ImagePair(paths[n], paths[(n + by) % len(paths)]) for by in apart for n in range(len(paths))][
        : options.timed
    ]
    for workers in options.workers:
        started = time.perf_counter()
        register_pairs(pairs, chosen, options.out / f"cache-{workers}-{time.time_ns()}", workers)
        seconds = time.perf_counter() - started
        print(f"| {len(pairs)} pairs with {workers} workers | {seconds:.0f} s, {seconds / len(pairs):.3f} s a pair |")


def _real_pairs(rows: Sequence[dict[str, Any]], chosen: RegistrationOptions, options: argparse.Namespace) -> None:
    pairs = [ImagePair(Path(row["prior_path"]), Path(row["path"])) for row in rows]
    size = " x ".join(map(str, read_image(pairs[0].path).size))
    timed = pairs[:TIMED]
    print(f"| seconds a pair of about {size} pixels, median of {len(timed)} | {_alone(timed, chosen):.3f} |")
    results: list[PairResult] = []
    for workers in options.workers:
        started = time.perf_counter()
        cache = options.out / f"cache-{workers}-{time.time_ns()}"
        results = register_pairs(pairs, chosen, cache, workers)
        seconds = (time.perf_counter() - started) / len(pairs)
        print(f"| seconds a pair with {workers} workers, reading and writing with it | {seconds:.3f} |")
    print(f"| real pairs that passed | {sum(result.passed for result in results)} of {len(results)} |")
    for pair, reason in failures(results):
        print(f"| {pair.prior.name} to {pair.path.name} | {reason} |")
    _correlations(rows, results)
    dice = {n: _dice(row, results[n]) for n, row in enumerate(rows) if row["mask_path"] and row["prior_mask_path"]}
    for what, kept in (("all pairs", list(dice)), ("pairs that passed", [n for n in dice if results[n].passed])):
        _gain(f"lung-mask Dice, {what}", [dice[n] for n in kept], [rows[n]["patient_id"] for n in kept])
    _sheet(options.out / "pairs.png", dice, results)


def _alone(pairs: Sequence[ImagePair], options: RegistrationOptions) -> float:
    """Median seconds of the registration alone."""
    seconds = []
    for pair in pairs:
        earlier, later = read_image(pair.prior), read_image(pair.path)
        started = time.perf_counter()
        register(earlier, later, options)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _correlations(rows: Sequence[dict[str, Any]], results: Sequence[PairResult]) -> None:
    kept = [n for n, result in enumerate(results) if result.folder is not None]
    scores = [(results[n].score_before, results[n].score) for n in kept]
    _gain("correlation, all pairs", scores, [rows[n]["patient_id"] for n in kept])


def _gain(what: str, values: Sequence[tuple[float, float]], patients: Sequence[str]) -> None:
    before, after = np.array(values).T
    gain = bootstrap_mean(after - before, patients, 0)
    print(
        f"| {what} ({len(values)} of {gain.n} patients) | {before.mean():.3f} to {after.mean():.3f}, gain"
        f" {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f}); least {(after - before).min():.3f}, lower in"
        f" {(after < before).sum()} |"
    )


def _dice(row: dict[str, Any], result: PairResult) -> tuple[float, float]:
    """Of the lungs, with no motion and registered."""
    earlier, later = (read_mask(Path(row[name])).pixels[0] > 0 for name in ("prior_mask_path", "mask_path"))
    images = (read_image(result.pair.prior), read_image(result.pair.path))
    unmoved = register(*images, RegistrationOptions(transform="off"))
    return _overlap(unmoved, earlier, later), _overlap(result.load(), earlier, later)


def _overlap(registration: Registration, earlier: NDArray[np.bool_], later: NDArray[np.bool_]) -> float:
    moved = apply_to_labels(registration, earlier)
    return float(2 * (moved & later).sum() / (moved.sum() + later.sum()))


def _sheet(path: Path, dice: dict[int, tuple[float, float]], results: Sequence[PairResult]) -> None:
    """Pairs from the one that gained least to the one that gained most."""
    order = sorted(dice, key=lambda number: dice[number][1] - dice[number][0])
    shown = [order[round(place)] for place in np.linspace(0, len(order) - 1, min(ROWS, len(order)))]
    triples = [(read_image(results[n].pair.prior), read_image(results[n].pair.path), results[n].load()) for n in shown]
    registration_sheet(path, triples, [f"lungs {dice[n][0]:.2f} to {dice[n][1]:.2f}" for n in shown])
    print(f"| picture | {path} |")
