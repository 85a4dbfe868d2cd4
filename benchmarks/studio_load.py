"""The studio under load: time to the first image, pages while a job runs, many browsers at once, memory over jobs."""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from medloom.core.cells import spelled
from medloom.core.files import hash_file
from medloom.recipes.commands import run_command

SECRET = "X-Studio-Secret"
BROWSERS, IMAGES_EACH = 10, 5
PATIENCE = 300.0


def main(words: list[str]) -> None:
    """Serve a model and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="run folder, e.g. runs/demo/run")
    parser.add_argument("--data", type=Path, help="a table whose first row gives a condition")
    parser.add_argument("--jobs", type=int, default=500, help="jobs over which memory is measured")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        form = condition(options.model, options.data)
        with serving(Path(name) / "studio", options.model, options.data) as studio:
            browser = Browser(studio.address)
            browser.wait_for_form()
            print("| what | measured |\n|---|---|")
            studio.end_worker()
            print(f"| first image, with a worker that is started | {browser.first_image(form):.1f} s |", flush=True)
            warm = [browser.first_image({**form, "seed": str(seed)}) for seed in range(1, 6)]
            print(f"| first image, warm worker, median of 5 | {np.median(warm):.1f} s |", flush=True)
            times = latencies(browser, form)
            print(f"| pages while a job runs, 95th percentile | {1000 * np.quantile(times, 0.95):.0f} ms |", flush=True)
            right, total = at_once(studio, options.model, form, Path(name))
            print(f"| images of {BROWSERS} browsers at once, as the command line's | {right} of {total} |", flush=True)
            early, late = memory(studio, browser, form, options.jobs)
            print(f"| memory after 50 and {options.jobs} jobs | {early:.0f} and {late:.0f} MB |", flush=True)


@dataclass(frozen=True)
class Studio:
    """A studio that runs."""

    address: str
    folder: Path
    process: int

    def memory(self) -> float:
        """MB of the page server and its worker."""
        server = psutil.Process(self.process)
        return sum(one.memory_info().rss for one in (server, *server.children(recursive=True))) / 2**20

    def end_worker(self) -> None:
        """End the worker; the server starts another one, which has everything to read."""
        for one in psutil.Process(self.process).children():
            one.kill()


@contextmanager
def serving(folder: Path, model: Path, data: Path | None) -> Iterator[Studio]:
    """A studio within the block."""
    words = [sys.executable, "-m", "medloom", "studio", f"--model={model}", f"--out={folder}", "--port=0", "--no-open"]
    words += [f"--data={data}"] if data else []
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            if process.stderr is None:
                raise RuntimeError("no standard error")
            found = None
            while found is None:
                found = re.search(r"http://[\d.]+:\d+", process.stderr.readline())
            yield Studio(found[0], folder, process.pid)
        finally:
            os.kill(process.pid, signal.SIGINT)
            process.wait(60)


class Browser:
    """What a browser does, without drawing."""

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=address, timeout=PATIENCE)
        page = self.client.get("/about").text
        self.client.headers[SECRET] = page.partition(f'"{SECRET}": "')[2].partition('"')[0]

    def wait_for_form(self) -> None:
        """Until the model was read."""
        while 'name="n"' not in self.client.get("/generate").text:
            time.sleep(0.1)

    def ask(self, form: dict[str, str]) -> str:
        """Send a form; the name of its job."""
        answer = self.client.post("/generate", data=form)
        answer.raise_for_status()
        return answer.text.partition('id="job-')[2].partition('"')[0]

    def until_over(self, job: str) -> str:
        """The page of a job that is over."""
        while True:
            page = self.client.get(f"/jobs/{job}").text
            if "sse-connect" not in page:
                return page
            time.sleep(0.02)

    def first_image(self, form: dict[str, str]) -> float:
        """Seconds from the click to the picture."""
        began = time.perf_counter()
        job = self.ask({**form, "n": "1"})
        self.until_over(job)
        self.client.get(f"/jobs/{job}/images/0/picture.png").raise_for_status()
        return time.perf_counter() - began


def condition(model: Path, data: Path | None) -> dict[str, str]:
    """The form of the first row of a table, or of a text alone."""
    import medloom

    generator = medloom.load(model, "cpu")
    form = {"model": model.name, "modality": next(iter(generator.spec.intensity)), "n": "1", "seed": "0"}
    if data is None:
        return {**form, "text": "Normal."}
    row = medloom.read_manifest(data, skip_bad=True).samples()[0]
    known = generator.row_condition(row.condition, str(data))
    cells = {f"column.{name}": spelled(cell) if cell is not None else "" for name, cell in known.table.items()}
    mask = {"mask": f"row:{data.name}:{row.line}"} if known.mask is not None else {}
    return {**form, "text": known.text or "", "modality": known.modality or form["modality"], **cells, **mask}


def latencies(browser: Browser, form: dict[str, str]) -> list[float]:
    """Seconds of each page while a job of many images runs."""
    job = browser.ask({**form, "n": "64"})
    times = []
    for number in range(200):
        began = time.perf_counter()
        browser.client.get(("/generate", "/history", "/runs", f"/jobs/{job}")[number % 4]).raise_for_status()
        times.append(time.perf_counter() - began)
    browser.client.post(f"/jobs/{job}/cancel")
    browser.until_over(job)
    return times


def at_once(studio: Studio, model: Path, form: dict[str, str], scratch: Path) -> tuple[int, int]:
    """How many images of many browsers are those of the command line, and how many there are."""

    def one(number: int) -> str:
        browser = Browser(studio.address)
        job = browser.ask({**form, "n": str(IMAGES_EACH), "seed": str(1000 * number)})
        browser.until_over(job)
        return job

    with ThreadPoolExecutor(BROWSERS) as pool:
        jobs = list(pool.map(one, range(BROWSERS)))
    right = 0
    for number, job in enumerate(jobs):
        made = studio.folder / "results" / job
        options = [word for word in words_of(studio, job) if not word.startswith("--model")]
        given = dict(word.removeprefix("--").partition("=")[::2] for word in options)
        out = scratch / f"command-{number}"
        run_command("generate", model=model, out=out, device="cpu", **given)
        right += sum(hash_file(path) == hash_file(out / path.name) for path in made.glob("0*"))
    return right, BROWSERS * IMAGES_EACH


def words_of(studio: Studio, job: str) -> list[str]:
    """The words of a job."""
    from medloom.studio.store.store import Store

    return list(Store(studio.folder).jobs.get(job).words)


def memory(studio: Studio, browser: Browser, form: dict[str, str], jobs: int) -> tuple[float, float]:
    """MB after 50 jobs and after all of them."""
    early = 0.0
    for number in range(jobs):
        browser.until_over(browser.ask({**form, "seed": str(number), "steps": "2"}))
        if number == 49:
            early = studio.memory()
    return early, studio.memory()
