"""A studio within the process of a test, asked as a browser asks it, and what its answers say."""

import html
import re
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from medloom.studio.store.jobs import Job
from medloom.studio.web.app import create_app
from medloom.studio.web.guard import SECRET
from medloom.studio.web.studio import Settings, Studio
from medloom.studio.work.runner import run_job
from medloom.studio.work.worker import _describe

HOME = "http://127.0.0.1:8765"
ALERT = re.compile(r'role="alert"[^>]*>(.*?)</(?:p|span)>', re.DOTALL)


class Browser:
    """A browser at a studio.

    Attributes:
        client: sends its requests.
        studio: that answers.

    Args:
        folder: of the studio.
        models: run folders, which are described as a worker does it.
        changed: other settings.
    """

    def __init__(self, folder: Path, models: tuple[Path, ...] = (), **changed: Any) -> None:
        app = create_app(Settings(folder, models=models, **changed))
        self.client = TestClient(app, base_url=HOME, follow_redirects=False, raise_server_exceptions=False)
        self.studio: Studio = app._app.state.studio  # type: ignore[attr-defined]
        for model in models:
            _describe(self.studio.store, model.resolve(), "cpu")

    def get(self, address: str, **options: Any) -> Any:
        return self.client.get(address, **options)

    def post(self, address: str, **options: Any) -> Any:
        """A change with the secret of the session."""
        headers = {**secret_of(self.client.get("/about").text), **options.pop("headers", {})}
        return self.client.post(address, headers=headers, **options)

    def bring(self, name: str, content: bytes, kind: str = "image") -> Any:
        return self.post(f"/uploads/{kind}", files={"file": (name, content)})

    def run(self) -> list[Job]:
        """Run all that waits, as a worker does; returns the jobs as they are then."""
        jobs, store = [], self.studio.store
        while job := store.jobs.take():
            run_job(store, job, "cpu")
            jobs.append(store.jobs.get(job.id))
        return jobs

    def brought(self) -> list[Path]:
        """All files of users, whole or not."""
        return [path for path in (self.studio.store.folder / "uploads").rglob("*") if path.is_file()]


def secret_of(page: str) -> dict[str, str]:
    return {SECRET: page.partition(f'"{SECRET}": "')[2].partition('"')[0]}


def sentences(answer: Any) -> str:
    """What a page says of a mistake."""
    found = [html.unescape(sentence.strip()) for sentence in ALERT.findall(answer.text)]
    return " ".join(filter(None, found)) or str(answer.text)


def name_of(answer: Any) -> str:
    """The name of a job, or of a file that was brought, in an answer."""
    found = re.search(r'(?:id="job-|value=")([0-9a-f]{32})"', answer.text)
    assert found, sentences(answer)
    return found[1]
