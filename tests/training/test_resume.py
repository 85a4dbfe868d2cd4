"""A run that is killed and resumed ends in the same bytes as one that was not."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import with_settings

from medloom.cli.main import main
from medloom.training.loop import finished_steps

STEPS = 24
EVERY = 4


def command(manifest: Path, out: Path, options: dict[str, object]) -> list[str]:
    words = ["train", "text2image", "--data", str(manifest), "--out", str(out)]
    values = {**options, "loop.steps": STEPS, "loop.checkpoint_every": EVERY, "loop.validate_every": 12}
    for name, value in values.items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return [sys.executable, "-m", "medloom", *with_settings(words, out.parent)]


def digests(run: Path) -> dict[str, str]:
    files = [run / "logs" / "metrics.csv", *sorted((run / "state").rglob("*")), *sorted((run / "model").rglob("*"))]
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run_to_end(words: list[str]) -> None:
    """In this process, which spares a start; all have one thread."""
    assert main(words[3:]) == 0


def kill_when(words: list[str], ready: Callable[[], bool]) -> None:
    """Start a command and kill it, with no warning, as soon as `ready`."""
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True)
    deadline = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_while_training_and_saving(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = make_manifest(20)
    run_to_end(command(manifest, tmp_path / "whole", tiny_options))
    out = tmp_path / "killed"
    words = command(manifest, out, tiny_options)
    # Once in a step, and once while a checkpoint is half-written.
    kill_when(words, lambda: finished_steps(out) >= EVERY)
    first = finished_steps(out)
    kill_when(words, lambda: finished_steps(out) > first and bool(list((out / "state").glob(".step-*"))))
    second = finished_steps(out)
    run_to_end(words)
    assert f"continuing from step {second} of {STEPS}" in capsys.readouterr().err
    assert second > first >= EVERY and second % EVERY == 0
    assert digests(out) == digests(tmp_path / "whole")
    assert not [path for path in out.rglob(".*") if "partial" in path.name]


@pytest.mark.slow
def test_killed_while_caching(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest(700, size=64)
    run_to_end(command(manifest, tmp_path / "whole", tiny_options))
    out = tmp_path / "killed"
    words = command(manifest, out, tiny_options)
    kill_when(words, lambda: bool(list(out.glob("cache/images-*/index.json"))))
    done = json.loads(next(out.glob("cache/images-*/index.json")).read_text())["done"]
    assert 0 < done < 560 and not list((out / "state").glob("*"))
    run_to_end(words)
    assert digests(out) == digests(tmp_path / "whole")
