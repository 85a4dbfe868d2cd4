"""`train --dry-run`: what a training takes, measured by a few steps that leave nothing behind."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medloom.core.progress import LOG
from medloom.recipes.commands import run_command


@pytest.mark.parametrize("task", ["text2image", "autoencoder"])
def test_a_dry_run_says_memory_disk_and_time_and_writes_nothing(
    task: str,
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = make_manifest()
    before = set(tmp_path.rglob("*"))
    shared = {name: value for name, value in tiny_options.items() if name.partition(".")[0] in ("loop", "device")}
    options = tiny_options if task == "text2image" else {**shared, "image_size": [16], "autoencoder.widths": [8, 8]}
    with caplog.at_level(logging.INFO, LOG.name):
        run_command(f"train {task}", **{**options, "loop.steps": 5000}, data=data, out=tmp_path / "run", dry_run=True)
    assert set(tmp_path.rglob("*")) == before
    said = caplog.text
    memory = re.search(r"memory  ([\d.]+) GB of main memory", said)
    disk = re.search(r"disk    (\S+) GB of caches in \S+, up to (\S+) GB of checkpoints; \S+ GB are free", said)
    time = re.search(r"time    (\S+) hours \(\S+\): \S+ to fill the caches, (\S+) for 5000 steps of (\S+) s, ", said)
    assert memory and disk and time
    assert float(memory[1]) > 0.2 and 0 < float(disk[1]) < float(disk[2]) < 1
    hours, minutes, seconds = map(int, time[2].split(":"))
    steps = 3600 * hours + 60 * minutes + seconds
    # 5000 steps take 5000 times as long as one, and the first one's start.
    assert steps == pytest.approx(5000 * float(time[3]), rel=0.1, abs=10)
    assert float(time[1]) >= steps / 3600 * 0.95
    # The messages of the steps themselves stay out of the way.
    assert "checkpoints take" not in said and "trained:" not in said
