"""Whole volumes: time against the published way at an equal network, and memory against the size of the volume.

The published way (DGM-VLC's inference on whole volumes): 250 ancestral steps for one patch after another, with half of
each axis overlapping, and each patch evaluated twice. medloom's default: 20 steps on the whole, windows of which a
quarter of each axis overlaps, blended at each step; with guidance each window is evaluated twice as well.

Seconds are measured on two patches at once, in turns, and multiplied by the number of evaluations; how far a whole
volume, run for two steps, is from its own extrapolation is printed beside them. The published way is let off lightly:
its two evaluations of a patch are taken together. Memory is the peak of a process of its own.
"""

import argparse
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.seeds import torch_generator
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.generators.diffusion.build import build_generator
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.sampling import DiffusionSampling
from medloom.generators.training_facts import TrainingFacts
from medloom.generators.volumes import OVERLAP, Tiling, WholeMask

CLASSES = (1, 2, 3)  # right lung, left lung, airway
PUBLISHED_STEPS, PUBLISHED_OVERLAP, PUBLISHED_EVALUATIONS = 250, 0.5, 2
CONDITION = Condition("Age 60 years.", "CT")
# Steps of a sampler after which its memory grows no more.
FEW_STEPS = 3


def main(words: list[str]) -> None:
    """Measure and print; `--child` is one measurement of memory."""
    options = _options(words)
    if options.child:
        print(_peak(options, tuple(options.child)))
        return
    _time(options)
    _memory(options)


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--volume", type=int, nargs=3, default=(256, 256, 128), help="voxels of the timed volume")
    parser.add_argument("--patch", type=int, nargs=3, default=(96, 96, 48))
    parser.add_argument("--widths", type=int, nargs="+", default=(32, 64, 128))
    parser.add_argument("--fold", type=int, default=2, help="voxels of each axis folded into channels")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument(
        "--memory", type=int, nargs="+", default=(96, 128, 160, 192, 256), help="sizes of N x N x N / 2"
    )
    parser.add_argument("--child", type=int, nargs=3, default=None, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def make_generator(options: argparse.Namespace) -> DiffusionGenerator:
    """A network with fresh weights, which take the same time as trained ones; levels as published."""
    spec = ImageSpec(
        tuple(options.patch), 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)}, orientation="RAS", patch=True
    )
    network = DenoiserOptions(
        widths=tuple(options.widths),
        attention=(False,) * len(options.widths),
        patch=options.fold,
        mask="channels",
        mask_classes=CLASSES,
        condition_width=64,
    )
    text = TextOptions(width=32, layers=1, vocabulary=600, max_tokens=24)
    noise = NoiseOptions("ddpm", "cosine", PUBLISHED_STEPS)
    facts = TrainingFacts(["CT: Age 60 years."], ["CT"], masks=MaskSpec(numbered(CLASSES)))
    return build_generator(spec, facts, None, network, text, noise, 0)


def _time(options: argparse.Namespace) -> None:
    generator = make_generator(options)
    pairs = {"published": _evaluation(generator, 2), "plain": _evaluation(generator, 2)}
    seconds = _turns({**pairs, "guided": _evaluation(generator, 4)}, options.turns, generator.device)
    volume, patch = tuple(options.volume), tuple(options.patch)
    published = _windows(volume, patch, PUBLISHED_OVERLAP) * PUBLISHED_STEPS * PUBLISHED_EVALUATIONS
    ours = _windows(volume, patch, OVERLAP) * DiffusionSampling().steps
    print(f"{_times(volume)} voxels in windows of {_times(patch)}, widths {options.widths}, {_device()}")
    print("| way | evaluations of a patch | hours, extrapolated | faster by (range over turns) |\n|---|---|---|---|")
    slow = [second / 2 * published for second in seconds["published"]]
    print(f"| published | {published} | {statistics.median(slow) / 3600:.2f} | 1 |")
    for name, label, factor in (("plain", "medloom, --guidance 1", 1), ("guided", "medloom, default (guidance 2)", 2)):
        fast = [second / 2 * ours for second in seconds[name]]
        ratios = sorted(theirs / mine for theirs, mine in zip(slow, fast, strict=True))
        print(
            f"| {label} | {ours * factor} | {statistics.median(fast) / 3600:.3f} |"
            f" {statistics.median(ratios):.0f} ({ratios[0]:.0f}-{ratios[-1]:.0f}) |"
        )
    _check_extrapolation(generator, patch, statistics.median(seconds["plain"]) / 2)


def _check_extrapolation(generator: DiffusionGenerator, patch: tuple[int, ...], second: float) -> None:
    """A whole of a few windows, run for two steps, against what its windows alone would take."""
    size = tuple(2 * length for length in patch)
    mask, steps = _mask(size, patch, 2), 2
    started = time.perf_counter()
    generator.sample_windows(CONDITION, 0, mask, DiffusionSampling(steps=steps + 1, guidance=1.0))
    taken = time.perf_counter() - started
    expected = _windows(size, patch, OVERLAP) * steps * second
    print(f"A whole of {_times(size)}, {steps} steps: {taken:.2f} s, extrapolated {expected:.2f} s.", flush=True)


def _memory(options: argparse.Namespace) -> None:
    """Peak memory of processes that make volumes of growing size; the least is one window."""
    print("\n| volume | MB of one float32 copy | peak MB | above one window | copies |\n|---|---|---|---|---|")
    sizes = [tuple(options.patch), *((side, side, side // 2) for side in options.memory)]
    least = math.nan
    for size in sizes:
        words = [sys.executable, "-m", "benchmarks", "whole_volume", "--child", *map(str, size)]
        words += ["--patch", *map(str, options.patch), "--widths", *map(str, options.widths)]
        found = subprocess.run([*words, "--fold", str(options.fold)], capture_output=True, text=True, check=True)
        peak, copy = float(found.stdout.split()[-1]), 4 * math.prod(size) / 1e6
        least = peak if math.isnan(least) else least
        above = peak - least
        print(f"| {_times(size)} | {copy:.0f} | {peak:.0f} | {above:.0f} | {above / copy:.1f} |", flush=True)


def _peak(options: argparse.Namespace, size: tuple[int, ...]) -> float:
    """Peak resident MB of this process after a whole volume was made."""
    generator = make_generator(options)
    mask = _mask(size, tuple(options.patch), 1)
    generator.sample_windows(CONDITION, 0, mask, DiffusionSampling(steps=FEW_STEPS, guidance=1.0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _mask(size: tuple[int, ...], patch: tuple[int, ...], batch: int) -> WholeMask:
    labels = np.zeros(size, np.int16)
    labels[: size[0] // 2] = 1
    return WholeMask(labels, Tiling(patch, OVERLAP, batch))


def _evaluation(generator: DiffusionGenerator, patches: int) -> Callable[[], object]:
    """One call of the network with so many patches."""
    parts = frozenset(generator.parts)
    shape = (patches, *generator.spec.shape)
    labels = torch.zeros((patches, *generator.spec.size), dtype=torch.long)
    positions = torch.tensor([[[-1.0, 1.0]] * len(generator.spec.size)] * patches)
    inputs = generator.context_inputs([CONDITION] * patches, parts).of_patches(labels, positions)
    x, t = torch.randn(shape, generator=torch_generator("patch")), torch.full((patches,), 100)

    @torch.no_grad()
    def evaluate() -> object:
        return generator._predict(x, t, inputs)

    return evaluate


def _turns(contestants: dict[str, Callable[[], object]], turns: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each turn of each contestant, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, evaluate in contestants.items():
            started = time.perf_counter()
            evaluate()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _windows(size: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> int:
    return math.prod(len(along) for along in Tiling(patch, overlap).starts(size))


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
