"""What a running job says of itself: progress, messages, and previews of images on their way."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from medloom.core.files import atomic_file
from medloom.core.plots import flat, levels_of
from medloom.core.progress import Progress
from medloom.generation.requests import Request
from medloom.generators.watching import SamplingStep
from medloom.studio.store.jobs import Job
from medloom.studio.store.store import Store

# Seconds between two notes in the store.
BETWEEN = 0.25
# Images of a batch that are previewed, and pixels of the longer side of a preview.
PREVIEWED, SIDE = 4, 256
# Previews may take this fraction of the time of sampling.
SHARE = 0.15
MESSAGES = 40


class Reporter(logging.Handler):
    """Reports on a job, into the store and its folder of previews.

    Attributes:
        messages: the last lines that the command said.

    Args:
        store: of the studio.
        job: that runs.
    """

    def __init__(self, store: Store, job: Job) -> None:
        super().__init__()
        self._store = store
        self._job = job
        self._folder = store.previews(job.id)
        self._now: dict[str, Any] = {}
        self._noted = self._previewed = 0.0
        self._cost = 0.0
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line that the command says."""
        self.messages = [*self.messages, record.getMessage()][-MESSAGES:]
        self._note(messages=self.messages)

    def progress(self, now: Progress) -> None:
        """Note how far the work is."""
        values = {**asdict(now), "left": now.seconds_left, "step": 0, "steps": 0}
        self._note(now.done >= now.total, **values)

    def preview(self, requests: Sequence[Request], step: SamplingStep) -> None:
        """Note a step of sampling, and draw what the model expects, unless drawing takes too much of the time."""
        number = requests[0].number
        self._note(step=step.index + 1, steps=step.total, batch=number)
        now = time.monotonic()
        if step.index and now - self._previewed < self._cost / SHARE:
            return
        for place, image in enumerate(step.estimate().numpy()[:PREVIEWED]):
            write_preview(self._folder / f"{number + place:06d}-{step.index:04d}.png", image)
        self._previewed = time.monotonic()
        self._cost = self._previewed - now

    def _note(self, at_once: bool = False, **values: Any) -> None:
        self._now |= values
        now = time.monotonic()
        if at_once or now - self._noted >= BETWEEN:
            self._noted = now
            self._store.jobs.note(self._job, self._now)


def write_preview(path: Path, image: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """Write an image `(C, *spatial)` in [-1, 1] as a small PNG."""
    picture = Pillow.fromarray(levels_of(flat(image)))
    picture.thumbnail((SIDE, SIDE))
    with atomic_file(path, flushed=False) as temporary:
        picture.save(temporary)
