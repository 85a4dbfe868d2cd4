"""Checking a manifest of a million rows: time, and memory that does not grow with pixels."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from medloom.core.seeds import numpy_generator


def main(words: list[str]) -> None:
    """Measure and print: the same number of rows with small and with large images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(words)
    print("| rows | image | seconds | peak memory (MB) |\n|---|---|---|---|")
    for pixels in (64, 1024):
        with tempfile.TemporaryDirectory() as name:
            manifest = _manifest(Path(name), options.rows, pixels)
            started = time.perf_counter()
            script = "import sys; from medloom.cli.main import main; sys.exit(main(sys.argv[1:]))"
            command = [sys.executable, "-c", script, "data", "check", str(manifest)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"| {options.rows:,} | {pixels} px | {time.perf_counter() - started:.0f} | {peak:.0f} |", flush=True)


def _manifest(root: Path, rows: int, pixels: int) -> Path:
    """Files of the same content under a million names (hard links, a thousand contents)."""
    (root / "i").mkdir()
    for number in range(min(rows, 1000)):
        values = numpy_generator("pixels", number).integers(0, 255, (pixels, pixels), dtype=np.uint8)
        values[8:] = values[:1]
        Image.fromarray(values).save(root / f"{number}.png", compress_level=1)
    with (root / "m.csv").open("w") as stream:
        stream.write("path,Text,modality,patient_id\n")
        for row in range(rows):
            folder = root / "i" / str(row // 10_000)
            if row % 10_000 == 0:
                folder.mkdir()
            os.link(root / f"{row % 1000}.png", folder / f"{row}.png")
            stream.write(f"i/{row // 10_000}/{row}.png,Finding number {row % 5000}.,CXR,p{row // 3}\n")
    return root / "m.csv"
