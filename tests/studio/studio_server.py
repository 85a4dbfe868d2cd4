"""A tiny model, and a studio that serves it in a process of its own, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, write_manifest

from medloom.recipes.commands import run_command

STARTED = re.compile(r"http://127\.0\.0\.1:(\d+)/")
PATIENCE = 120.0


@dataclass
class Served:
    """A studio that runs.

    Attributes:
        address: of its first page.
        folder: of its jobs.
        process: of the page server.
    """

    address: str
    folder: Path
    process: "subprocess.Popen[str]"

    def worker(self) -> int:
        """The process of its worker."""
        import psutil

        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for child in psutil.Process(self.process.pid).children():
                if "medloom.studio.work.worker" in child.cmdline():
                    return int(child.pid)
            time.sleep(0.05)
        raise AssertionError("no worker")


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[Served]:
    """A studio within the block."""
    command = [sys.executable, "-m", "medloom", "studio", f"--out={folder}", "--port=0", "--no-open", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            said, found = "", None
            while found is None:
                line = process.stderr.readline()
                assert line, said
                said, found = said + line, STARTED.search(line)
            yield Served(f"http://127.0.0.1:{found[1]}", folder, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of images with masks and two clinical columns."""
    path = write_manifest(tmp_path_factory.mktemp("studio") / "data", 24, masks=True)
    head, *lines = path.read_text().splitlines()
    rows = [f"{line},{30 + number},{('never', 'current')[number % 2]}" for number, line in enumerate(lines)]
    path.write_text("\n".join([f"{head},age,smoking", *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def model(table: Path) -> Path:
    """A model of the table, trained for a few steps."""
    options: dict[str, Any] = {
        **TINY,
        "table": ["age", "smoking"],
        "network.mask": "channels",
        "network.mask_classes": [1],
    }
    out = table.parents[1] / "run"
    run_command("train text2image", data=table, out=out, **options)
    return out
