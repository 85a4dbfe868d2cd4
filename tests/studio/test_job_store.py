"""The job store: turns, cancelling, what a kill leaves, and files that are none."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.studio.store import jobs as of_jobs
from medloom.studio.store.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Job
from medloom.studio.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "studio")


def added(store: Store, user: str = "anna", title: str = "4 CT images") -> Job:
    return store.jobs.add(user, "generate", ["--n=4", "--prompt=a — b"], title, {"text": "a — b"})


def test_a_job_goes_through_its_states(store: Store) -> None:
    job = added(store)
    assert (job.state, job.number, job.words, job.form["text"]) == (QUEUED, 1, ("--n=4", "--prompt=a — b"), "a — b")
    taken = store.jobs.take()
    assert taken is not None and taken.id == job.id and taken.state == RUNNING and taken.starts == 1
    assert store.jobs.take() is None
    store.jobs.note(taken, {"done": 1, "total": 4})
    assert store.jobs.get(job.id).progress == {"done": 1, "total": 4}
    store.jobs.finish(taken, DONE, "4 images")
    ended = store.jobs.get(job.id)
    assert ended.is_over and ended.message == "4 images" and ended.ended is not None


def test_users_take_turns(store: Store) -> None:
    first, second, third = added(store), added(store), added(store)
    other = added(store, "ben")
    assert [job.id for job in store.jobs.queue()] == [first.id, other.id, second.id, third.id]
    assert [store.jobs.place(job) for job in (first, other, second, third)] == [0, 1, 2, 3]
    assert [job.id for job in store.jobs.of("anna")] == [third.id, second.id, first.id]
    assert [job.id for job in store.jobs.of("anna", limit=1, before=third.number)] == [second.id]


def test_a_killed_worker_leaves_its_job_to_the_next_one_but_not_for_ever(store: Store) -> None:
    job, later = added(store), added(store)
    for start in range(of_jobs.MOST_STARTS):
        taken = store.jobs.take()
        assert taken is not None and taken.id == job.id and taken.starts == start + 1
        # A new worker finds it running.
        store.jobs.requeue()
    assert store.jobs.get(job.id).state == FAILED
    assert "the worker ended 3 times" in store.jobs.get(job.id).message
    taken = store.jobs.take()
    assert taken is not None and taken.id == later.id
    # One that is given back by a worker that ends with its server has not failed.
    store.jobs.finish(taken, QUEUED)
    assert store.jobs.get(later.id).starts == 0


def test_cancelling(store: Store) -> None:
    waiting, running = added(store), added(store, "ben")
    store.jobs.cancel(waiting)
    assert store.jobs.get(waiting.id).state == CANCELLED
    taken = store.jobs.take()
    assert taken is not None and taken.id == running.id
    store.jobs.cancel(taken)
    assert store.jobs.is_cancelling(taken) and store.jobs.get(taken.id).state == RUNNING
    store.jobs.requeue()
    assert store.jobs.get(taken.id).state == CANCELLED
    with pytest.raises(UserError, match="there is no such job"):
        store.jobs.get("nothing")


def test_a_user_cannot_fill_the_queue(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_jobs, "MOST_QUEUED", 2)
    job = added(store)
    added(store)
    with pytest.raises(UserError, match="2 of your jobs are in the queue"):
        added(store)
    added(store, "ben")
    with pytest.raises(UserError, match="the job is not over"):
        store.jobs.remove(job)
    store.jobs.cancel(job)
    store.jobs.remove(job)
    assert added(store).number == 4


WRITER = """
import sys
from pathlib import Path
from medloom.studio.store.store import Store
store = Store(Path(sys.argv[1]))
while True:
    print(store.jobs.add("anna", "generate", [], "one").id, flush=True)
    store.jobs.cancel(store.jobs.queue()[0])
"""


def test_what_was_acknowledged_survives_a_kill(store: Store) -> None:
    seen: list[str] = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.folder)], stdout=subprocess.PIPE, text=True
        ) as one:
            assert one.stdout is not None
            seen += [one.stdout.readline().strip() for _ in range(5)]
            one.kill()
    known = {job.id for job in store.jobs.of("anna", limit=1000)}
    assert set(seen) <= known and len(set(seen)) == len(seen)


def test_files_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "studio.sqlite").write_text("not a database, but a text that is long enough to be read" * 20)
    with pytest.raises(UserError, match="is damaged or no job store"):
        Store(tmp_path / "a")
    Store(tmp_path / "b")
    with sqlite3.connect(tmp_path / "b" / "studio.sqlite") as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(UserError, match="written by another version of medloom"):
        Store(tmp_path / "b")
