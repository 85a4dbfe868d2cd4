"""Previews: images on their way, for whoever watches a command that runs in the same process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from medloom.generation.requests import Request
from medloom.generators.watching import SamplingStep, Watch

# Is given the requests of a batch and a step of its sampling.
Preview = Callable[[Sequence[Request], SamplingStep], None]
_preview: ContextVar[Preview | None] = ContextVar("preview", default=None)


@contextmanager
def previewing(preview: Preview) -> Iterator[None]:
    """Within the block `preview` is given each step of every image that commands of this process generate."""
    token = _preview.set(preview)
    try:
        yield
    finally:
        _preview.reset(token)


def watch_of(requests: Sequence[Request]) -> Watch | None:
    """What watches the sampling of a batch, or None."""
    preview = _preview.get()
    return None if preview is None else lambda step: preview(requests, step)
