"""Ten kills at random times, in steps, in saves and in caching; the run that is left ends in the same bytes."""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drawings import write_drawings
from medloom.core.seeds import numpy_generator
from medloom.training.loop import finished_steps

EVERY = 20
SETTINGS = """
network: {widths: [32, 64], attention: [false, true], patch: 2}
text: {width: 64, layers: 1, vocabulary: 600, max_tokens: 24}
loop: {log_every: 5}
"""
OPTIONS = f"""--image-size 32 --loop.batch 16 --loop.checkpoint-every {EVERY} --loop.validate-every 100
 --device cpu""".split()


def main(words: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        manifest = write_drawings(root / "data", 600, 48, seed=0)
        (manifest.parent / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
        seconds = _run(manifest, root / "whole", options.steps)
        print(f"never killed: {options.steps} steps in {seconds:.1f} s, a checkpoint every {EVERY}")
        print(
            "| kill | after (s) | step of the last checkpoint | steps logged beyond it, done again |\n|---|---|---|---|"
        )
        rng = numpy_generator("kills")
        for number in range(options.kills):
            after = float(rng.uniform(2.0, 2.0 + 0.45 * seconds))
            _kill(manifest, root / "killed", options.steps, after)
            print(
                f"| {number + 1} | {after:.1f} | {finished_steps(root / 'killed')} | {_beyond(root / 'killed')} |",
                flush=True,
            )
        _run(manifest, root / "killed", options.steps)
        differing = [n for n, digest in _digests(root / "whole").items() if _digests(root / "killed").get(n) != digest]
        print(f"files that differ at the end (weights, EMA, optimiser, metrics.csv, model): {differing or 'none'}")


def _command(manifest: Path, out: Path, steps: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "medloom",
        "train",
        "text2image",
        "--data",
        str(manifest),
        "--out",
        str(out),
        "--config",
        str(manifest.parent / "settings.yaml"),
        "--loop.steps",
        str(steps),
        *OPTIONS,
    ]


def _run(manifest: Path, out: Path, steps: int) -> float:
    started = time.perf_counter()
    subprocess.run(_command(manifest, out, steps), check=True, capture_output=True)
    return time.perf_counter() - started


def _kill(manifest: Path, out: Path, steps: int, after: float) -> None:
    process = subprocess.Popen(_command(manifest, out, steps), stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _beyond(out: Path) -> int:
    """The last logged step minus the last checkpoint's: redone work, to the precision of the log."""
    metrics = out / "logs" / "metrics.csv"
    rows = metrics.read_text().splitlines()[1:] if metrics.exists() else []
    last = max((int(row.split(",")[0]) for row in rows if row.count(",") == 2), default=0)
    return max(0, last - finished_steps(out))


def _digests(run: Path) -> dict[str, str]:
    files = [run / "logs" / "metrics.csv", *(run / "state").rglob("*"), *(run / "model").rglob("*")]
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }
