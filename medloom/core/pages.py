"""Pages of text for a terminal or a pager."""

import os
import sys


def show_page(text: str) -> None:
    """Print to standard output; that its reader has seen enough, as `head` has after ten lines, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is still buffered would be refused again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
