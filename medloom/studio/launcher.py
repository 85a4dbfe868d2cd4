"""A file that starts the studio on a double click."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import write_text

# Ending of the file -> the system that opens it.
ENDINGS = {".desktop": "Linux", ".command": "macOS", ".sh": "Linux and macOS", ".bat": "Windows"}


def write_launcher(path: Path, words: Sequence[str]) -> None:
    """Write a file that starts a studio with these options in this folder, and opens its page.

    Args:
        path: of the file; its ending says for which system it is.
        words: options of `medloom studio`.

    Raises:
        UserError: another ending, or there is such a file.
    """
    known = ", ".join(f"{ending} for {system}" for ending, system in ENDINGS.items())
    if path.suffix not in ENDINGS:
        raise UserError(f"--launcher {path}: the file's ending says which system opens it: {known}.")
    if path.exists():
        raise UserError(f"--launcher {path}: there is such a file; name another one, or remove it.")
    here, command = Path.cwd(), [sys.executable, "-m", "medloom", "studio", *words]
    if path.suffix == ".bat":
        content = f'@echo off\r\ncd /d "{here}"\r\n{subprocess.list2cmdline(command)}\r\npause\r\n'
    elif path.suffix == ".desktop":
        inner = f"cd {shlex.quote(str(here))} && {shlex.join(command)}"
        line = shlex.join(["sh", "-c", inner]).replace("%", "%%")
        content = f"[Desktop Entry]\nType=Application\nName=medloom studio\nTerminal=true\nExec={line}\n"
    else:
        content = f"#!/bin/sh\ncd {shlex.quote(str(here))} && exec {shlex.join(command)}\n"
    write_text(path, content)
    path.chmod(0o755)
