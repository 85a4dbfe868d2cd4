"""FD, KID, PRDC and Vendi of the same features by medloom and by usual public implementations: time and peak memory.

Each side runs in a process of its own, whose peak of resident memory less that after loading the features is reported.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# Seconds and MB, below which a measurement is none.
SMALLEST = 0.01


def main(words: list[str]) -> None:
    """Make features, run both sides in turns, and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "theirs"))
    parser.add_argument("--features", type=Path)
    options = parser.parse_args(words)
    if options.side:
        print(json.dumps(_measured(options.side, options.features)))
        return
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features.npz"
        rng = np.random.default_rng(0)
        mixing = rng.standard_normal((options.width, options.width)).astype(np.float32) / options.width**0.5
        x, y = (rng.standard_normal((options.n, options.width)).astype(np.float32) @ mixing for _ in range(2))
        np.savez(features, x=x, y=1.1 * y + 0.02)
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
        for _ in range(options.turns):
            for side, runs in found.items():
                command = [sys.executable, "-m", "benchmarks", "metrics_speed", "--side", side, "--features"]
                done = subprocess.run([*command, str(features)], capture_output=True, text=True, check=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
    print("\n".join(_lines(found)))


def _measured(side: str, features: Path) -> dict[str, Any]:
    loaded = np.load(features)
    x, y = loaded["x"], loaded["y"]
    run = _ours() if side == "ours" else _theirs()
    before, start = _peak(), time.perf_counter()
    values = run(x, y)
    return {"seconds": time.perf_counter() - start, "megabytes": _peak() - before, "values": values}


def _ours() -> Any:
    from medloom.metrics import frechet_distance, kernel_distance, prdc, vendi_score

    def run(x: np.ndarray, y: np.ndarray) -> list[float]:
        shares = prdc(x, y)
        kid = kernel_distance(x, y, seed=0)
        values = [frechet_distance(x, y), kid.mean, shares.precision, shares.recall, shares.density, shares.coverage]
        return [*values, vendi_score(y)]

    return run


def _theirs() -> Any:
    from benchmarks.baselines.set_metrics import run

    return run


def _peak() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _lines(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    median = {
        side: {what: statistics.median(run[what] for run in runs) for what in ("seconds", "megabytes")}
        for side, runs in found.items()
    }
    lines = [f"{side}: {own['seconds']:.1f} s, {own['megabytes']:.0f} MB" for side, own in median.items()]
    lines += [
        f"{what}: {median['theirs'][what] / max(median['ours'][what], SMALLEST):.1f} times less"
        for what in ("seconds", "megabytes")
    ]
    names = ("FD", "KID", "precision", "recall", "density", "coverage", "Vendi")
    pairs = zip(names, found["ours"][0]["values"], found["theirs"][0]["values"], strict=True)
    return [*lines, *(f"{name}: {ours:.6g} and {theirs:.6g}" for name, ours, theirs in pairs)]
