"""Ratings by many raters whose studio is killed again and again: what was acknowledged and is lost or kept twice."""

import argparse
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from medloom.feedback.ratings.export import ratings_table
from medloom.feedback.ratings.plan import PlanOptions
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore

SECRET = "X-Studio-Secret"
# Of the ratings that were acknowledged, how many are sent again as if the acknowledgement had been lost.
AGAIN = 0.1
PATIENCE = 300.0
OPTIONS = PlanOptions(True, 0.2, 0.0, 1, "quality", False, 0, 0)


@dataclass
class Found:
    """What was sent, acknowledged and kept.

    Attributes:
        sent: ids of all ratings.
        acknowledged: ids of those that the studio acknowledged.
        kept: ids in the store.
        places: images that have a rating, of all raters.
        retries: requests that were sent again, because they were cut off or as if their answer had been lost.
        errors: answers that said an error of the studio.
        kills: of the studio.
        seconds: of all.
        milliseconds: of each acknowledged request.
    """

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    kept: list[str] = field(default_factory=list)
    places: int = 0
    retries: int = 0
    errors: int = 0
    kills: int = 0
    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Acknowledged ratings that the store does not have."""
        return len(self.acknowledged - set(self.kept))

    @property
    def doubled(self) -> int:
        """Ratings that the store has more than once, or that nobody sent."""
        return len(self.kept) - len(set(self.kept) & self.sent)


def main(words: list[str]) -> int:
    """Rate, kill and count; returns 1 where a rating was lost or doubled."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--ratings", type=int, default=200, help="of each rater")
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        found = rate_and_kill(Path(folder), options.raters, options.ratings, options.kills)
    print("| what | measured |\n|---|---|")
    print(f"| ratings sent by {options.raters} raters at once | {len(found.sent)} |")
    print(f"| kills (SIGKILL) of the studio meanwhile | {found.kills} |")
    print(f"| ratings that were sent again: cut off by a kill, or one in ten anyway | {found.retries} |")
    print(f"| answers that said an error | {found.errors} |")
    print(f"| acknowledged | {len(found.acknowledged)} |")
    print(f"| acknowledged and lost | {found.lost} |")
    print(f"| kept twice | {found.doubled} |")
    print(f"| images with a rating, of all raters | {found.places} |")
    median, late = (float(np.quantile(found.milliseconds, part)) for part in (0.5, 0.95))
    print(f"| an acknowledgement, median and 95th percentile | {median:.0f} and {late:.0f} ms |")
    print(f"| all | {found.seconds:.0f} s |")
    return int(found.lost > 0 or found.doubled > 0)


def rate_and_kill(folder: Path, raters: int, ratings: int, kills: int) -> Found:
    """Let raters rate a series while its studio is killed at random moments and started again."""
    names = [f"rater{number}" for number in range(raters)]
    store = RatingStore(folder / "ratings.db")
    links = {rater.name: rater.link for rater in begin_series(store, names, [_images(folder, ratings)], OPTIONS)}
    found, began, total = Found(), time.perf_counter(), raters * ratings
    studio = Studio(folder)
    port = studio.start()
    try:
        with ThreadPoolExecutor(raters) as pool:
            rating = [pool.submit(_rate, f"http://127.0.0.1:{port}", links[name], ratings, found) for name in names]
            moments = sorted(random.Random(0).sample(range(1, total), kills))
            for moment in moments:
                while len(found.acknowledged) < moment and not all(each.done() for each in rating):
                    time.sleep(0.001)
                studio.kill()
                found.kills += 1
                studio.start(port)
            for each in rating:
                each.result()
    finally:
        studio.kill()
    found.seconds = time.perf_counter() - began
    with closing(sqlite3.connect(store.path)) as connection:
        found.kept = [row[0] for row in connection.execute("select id from ratings")]
    table = ratings_table(store.path)
    found.places = len(table[["rater", "item"]].drop_duplicates())
    return found


class Studio:
    """A studio of ratings in a process of its own.

    Args:
        folder: of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self, port: int = 0) -> int:
        """Start it; returns its port."""
        words = [f"--store={self._folder / 'ratings.db'}", f"--out={self._folder / 'studio'}", f"--port={port}"]
        command = [sys.executable, "-m", "medloom", "studio", "--no-open", *words]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        if self._process.stderr is None:
            raise RuntimeError("no standard error")
        said = ""
        while (listening := re.search(r"http://127\.0\.0\.1:(\d+)/", said)) is None:
            line = self._process.stderr.readline()
            if not line:
                raise RuntimeError(said)
            said += line
        # What it says later must not fill the pipe.
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        return int(listening[1])

    def kill(self) -> None:
        """Kill it, as the system does."""
        if self._process is None:
            raise RuntimeError("not started")
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(60)


def _images(folder: Path, count: int) -> Path:
    noise, lines = np.random.default_rng(0), ["path,text,modality"]
    for number in range(count):
        Image.fromarray(noise.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,Prompt {number}.,CXR")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder / "images.csv"


def _rate(address: str, link: str, ratings: int, found: Found) -> None:
    """What a browser does: each rating is sent until it is acknowledged, some of them once more."""
    draw, until = random.Random(link), time.monotonic() + PATIENCE
    with httpx.Client(base_url=address, timeout=30) as client:
        for place in range(ratings):
            answers = {"realism": draw.randint(1, 3), "match": draw.randint(1, 3)}
            body: dict[str, Any] = {
                "id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
                "kind": "rating",
                "answers": answers,
            }
            body |= {"flags": [], "comment": "", "seconds": round(draw.expovariate(0.2), 3)}
            found.sent.add(body["id"])
            times = 1 + (draw.random() < AGAIN)
            while times:
                if time.monotonic() > until:
                    raise TimeoutError(f"the studio did not answer for {PATIENCE:.0f} s")
                began = time.perf_counter()
                try:
                    answer = client.post(f"/rate/{link}/1/{place}", json=body)
                    if answer.status_code == 403:
                        page = client.get("/about").text
                        client.headers[SECRET] = page.partition(f'"{SECRET}": "')[2].partition('"')[0]
                        continue
                except httpx.ConnectError:
                    # There is no studio now, and nothing was sent.
                    time.sleep(0.2)
                    continue
                except httpx.TransportError:
                    found.retries += 1
                    continue
                if answer.status_code >= 500:
                    # As the page does; none is expected.
                    found.errors += 1
                    time.sleep(0.5)
                    continue
                answer.raise_for_status()
                until = time.monotonic() + PATIENCE
                found.acknowledged.add(answer.json()["id"])
                found.milliseconds.append(1000 * (time.perf_counter() - began))
                times -= 1
                found.retries += times
