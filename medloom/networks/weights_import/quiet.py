"""Keeps the libraries' progress bars and reports from the console, where our own messages say the same in one line."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within the block diffusers and transformers print nothing; afterwards they are as before."""
    import diffusers
    import transformers

    with ExitStack() as stack:
        for library in (diffusers, transformers):
            stack.enter_context(_quiet(library.utils.logging))
        yield


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
