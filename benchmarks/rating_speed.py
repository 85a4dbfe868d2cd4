"""Rating pages in a browser: milliseconds from the key that keeps a rating to the next image on the screen."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from medloom.feedback.ratings.export import ratings_table

KEYS = ("d", "k", "Enter")


def main(words: list[str]) -> None:
    """Rate a series by keys, as fast as images appear, and print how long they took."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="manifest of the images (default: smooth noise)")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=512, help="of the noise")
    parser.add_argument("--pause", type=int, default=1000, help="milliseconds that the rater looks at an image")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = options.data or _images(folder, options.images, options.size)
        command = [sys.executable, "-m", "medloom", "studio", f"--rate={data}", "--raters=anna", "--blind", "--no-open"]
        command += [f"--store={folder / 'ratings.db'}", f"--out={folder / 'studio'}", "--port=0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            if process.stderr is None:
                raise RuntimeError("no standard error")
            found = None
            while found is None:
                found = re.search(r"anna rates at (\S+)", process.stderr.readline())
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1366, "height": 900})
                page.goto(f"{found[1]}/1")
                ready = "() => window.medloomRating?.opened !== undefined"
                for _ in range(options.images):
                    page.wait_for_function(ready)
                    page.wait_for_timeout(options.pause)
                    for key in KEYS:
                        page.keyboard.press(key)
                page.wait_for_function("() => medloomRating.outbox.waiting.size === 0")
                # The first image is loaded with the page, and after the last one there is none.
                times = page.evaluate("() => medloomRating.latencies.slice(1)")
                browser.close()
            process.terminate()
            process.wait(60)
        kept = len(ratings_table(folder / "ratings.db"))
    print("| what | measured |\n|---|---|")
    print(f"| images | {len(times)} of {'the table' if options.data else f'{options.size} x {options.size} pixels'} |")
    print(f"| key to next image, median | {np.median(times):.0f} ms |")
    print(f"| key to next image, 95th percentile | {np.quantile(times, 0.95):.0f} ms |")
    print(f"| ratings in the store | {kept} |")


def _images(folder: Path, count: int, size: int) -> Path:
    noise, lines = np.random.default_rng(0), ["path,text,modality"]
    for number in range(count):
        coarse = Image.fromarray(noise.integers(0, 255, (16, 16), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        lines.append(f"{number}.png,Prompt {number}.,CXR")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder / "images.csv"
