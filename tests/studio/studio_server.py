"""Tiny models, and a studio that serves them in a process of its own, as a user starts it.

Each file of tests has fixtures of its own, even where they are imported; these make what is costly once a process.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from conftest import TINY, write_manifest
from PIL import Image

from medloom.recipes.commands import run_command
from medloom.report_text.progression import NO_CHANGE

T = TypeVar("T")
OPEN = pytest.StashKey[dict[str, Any]]()
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


def held_open(config: pytest.Config, name: str, context: AbstractContextManager[T]) -> T:
    """What a context yields, entered once in this process, and left when the tests end."""
    held = config.stash.setdefault(OPEN, {})
    if name not in held:
        held[name] = context.__enter__()
        config.add_cleanup(lambda: context.__exit__(None, None, None) and None)
    return held[name]  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of images with masks and two clinical columns."""
    root = tmp_path_factory.getbasetemp() / "studio"
    if root.exists():
        return root / "data" / "manifest.csv"
    root.mkdir()
    path = write_manifest(root / "data", 24, masks=True)
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
    if not out.exists():
        run_command("train text2image", data=table, out=out, **options)
    return out


@pytest.fixture(scope="session")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of prior images, instructions and later images: a spot appears, or nothing changes."""
    root = tmp_path_factory.getbasetemp() / "triples"
    if root.exists():
        return root / "triples.csv"
    root.mkdir()
    lines = ["path,prior,instruction,Text,modality,patient_id"]
    for number in range(16):
        spot = bool(number % 2)
        before = np.full((16, 16), 60 + 3 * number, np.uint8)
        before[:2] = 10
        after = before.copy()
        after[4:12, 4:12] = 250 if spot else after[4:12, 4:12]
        Image.fromarray(before).save(root / f"prior{number}.png")
        Image.fromarray(after).save(root / f"later{number}.png")
        said = "A spot has appeared." if spot else NO_CHANGE
        lines.append(f"later{number}.png,prior{number}.png,{said},A report.,X-ray,p{number}")
    (root / "triples.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "triples.csv"


@pytest.fixture(scope="session")
def editor(triples: Path) -> Path:
    """An editor, trained for a few steps."""
    out = triples.parent / "editor"
    if not out.exists():
        run_command("train edit", data=triples, out=out, **TINY)
    return out


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual cohort of small volumes in HU."""
    out = tmp_path_factory.mktemp("volumes") / "cohort"
    run_command("data phantom", out=out, patients=10, dims=3, size=16, complete=True, workers=1)
    return out / "train.csv"


@pytest.fixture(scope="session")
def volume_model(volumes: Path) -> Path:
    """A model of volumes, trained for a few steps."""
    out = volumes.parents[1] / "run"
    network = {name: value for name, value in TINY.items() if not name.startswith("text.") and name != "image_size"}
    more = {"dims": 3, "unit": "HU", "table": ["age", "smoking"], "columns": ["text=none"], "network.patch": 1}
    run_command("train mask2image", data=volumes, out=out, **{**network, "image_size": [16], **more})
    return out
