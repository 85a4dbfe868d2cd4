"""Jobs in their worker: the command line's images, bit by bit, whatever is killed in between."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conftest import medloom
from studio_server import PATIENCE, model, serving, table

from medloom.studio.store.jobs import CANCELLED, DONE, FAILED, RUNNING, Job
from medloom.studio.store.store import Store


def until(store: Store, job: Job, reached: Callable[[Job], bool]) -> Job:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        now = store.jobs.get(job.id)
        if reached(now):
            return now
        assert now.state != FAILED, now.message
        time.sleep(0.02)
    raise AssertionError(f"{now.state}: {now.message} {now.progress}")


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("0*.png")}


def words_of(run: Path, count: int) -> list[str]:
    own = ["--modality=Disc", "--prompt=A disc, left.", "--table=age=40,smoking=never"]
    mask = run.parent / "data" / "m0.png"
    return [f"--model={run}", *own, f"--mask={mask}", f"--n={count}", "--seed=3", "--batch=1"]


def test_a_job_survives_kills_and_another_is_cancelled(model: Path, tmp_path: Path) -> None:
    """The worker is killed, and then the page server; what a job could not do is said."""
    folder = tmp_path / "studio"
    store = Store(folder)
    words = (f"--model={model}", "--device=cpu")
    with serving(folder, *words) as studio:
        long = store.jobs.add("local", "generate", [*words_of(model, 500), "--steps=50"], "five hundred")
        wrong = store.jobs.add("local", "generate", [f"--model={model}", "--modality=Dsc", "--prompt=a"], "wrong")
        gone = store.jobs.add("local", "generate", words_of(tmp_path / "nothing", 1), "gone")
        until(store, long, lambda now: now.state == RUNNING and now.progress.get("done", 0) >= 1)
        store.jobs.cancel(long)
        assert until(store, long, lambda now: now.is_over).state == CANCELLED
        failed = until(store, wrong, lambda now: now.is_over)
        assert failed.state == FAILED and "'Dsc' was never trained on, did you mean 'Disc'?" in failed.message
        assert "is not a folder" in until(store, gone, lambda now: now.is_over).message
        job = store.jobs.add("local", "generate", [*words_of(model, 8), "--steps=30"], "eight")
        until(store, job, lambda now: now.state == RUNNING and now.progress.get("done", 0) >= 2)
        os.kill(studio.worker(), signal.SIGKILL)
        until(store, job, lambda now: now.state == RUNNING and now.progress.get("done", 0) >= 4)
        os.kill(studio.process.pid, signal.SIGKILL)
    assert not store.jobs.get(job.id).is_over
    with serving(folder, *words):
        ended = until(store, job, lambda now: now.is_over)
    assert ended.state == DONE, ended.message
    again = tmp_path / "again"
    assert medloom(["generate", *words_of(model, 8), "--steps=30", f"--out={again}", "--device=cpu"]) == 0
    assert pixels(store.results(job.id)) == pixels(again) and len(pixels(again)) == 8
    log = (folder / "worker.log").read_text()
    assert "A disc" not in log and "Dsc" not in log


def test_the_demo_is_one_click(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "studio")
    with serving(tmp_path / "studio", "--device=cpu") as studio, httpx.Client(base_url=studio.address) as browser:
        page = browser.get("/").text
        secret = page.partition('"X-Studio-Secret": "')[2].partition('"')[0]
        assert "Make the demo" in page
        browser.post("/demo", headers={"X-Studio-Secret": secret}).raise_for_status()
        (job,) = store.jobs.of("local")
        until(store, job, lambda now: now.state == RUNNING and now.progress.get("done", 0) > 0)
        page = browser.get("/").text
        assert "rendering patients" in page and "Make the demo" not in page
        browser.post(f"/jobs/{job.id}/cancel", headers={"X-Studio-Secret": secret}).raise_for_status()
        assert until(store, job, lambda now: now.is_over).state == CANCELLED
        assert "Make the demo" in browser.get("/").text
