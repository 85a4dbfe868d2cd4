"""The password file: a line `NAME:HASH` for each user, hashed with scrypt; no password is ever written."""

import getpass
import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import write_text

# Cost of scrypt (RFC 7914): about 50 ms and 16 MB a try.
COST, BLOCK, PARALLEL = 2**14, 8, 1
SHORTEST = 8
NAME = r"[a-z0-9_.-]{1,32}"
LINE = re.compile(rf"({NAME}):(scrypt\$[0-9a-f]{{32}}\$[0-9a-f]{{128}})")


def hashed(password: str) -> str:
    """A password as a line of the file has it.

    >>> is_right("correct horse", hashed("correct horse")), is_right("wrong horse", hashed("correct horse"))
    (True, False)
    """
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_digest(password, salt)}"


def is_right(password: str, known: str) -> bool:
    """Whether a password is the hashed one."""
    _, salt, digest = known.split("$")
    return hmac.compare_digest(_digest(password, bytes.fromhex(salt)), digest)


def read_passwords(path: Path) -> dict[str, str]:
    """User -> hashed password.

    Raises:
        UserError: it cannot be read, or has a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--password-file {path} cannot be read; make it with --password-file {path} --add-user NAME."
        ) from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not (matched := LINE.fullmatch(line.strip())):
            raise UserError(
                f"--password-file {path}, line {number}: it is not NAME:HASH; remove it, and add the user again with"
                " --add-user NAME."
            )
        found[matched[1]] = matched[2]
    if not found:
        raise UserError(f"--password-file {path} has no user; add one with --add-user NAME.")
    return found


def add_user(path: Path, name: str) -> None:
    """Ask for a user's password and write its hash; a user of that name gets another password.

    Raises:
        UserError: a name that is none, or a password that is too short or typed differently the second time.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(f"--add-user {name}: a name has up to 32 small letters, digits and _ . -")
    known: Mapping[str, str] = read_passwords(path) if path.exists() else {}
    password = _asked(f"password of {name}: ")
    if len(password) < SHORTEST:
        raise UserError(f"the password has {len(password)} characters; give at least {SHORTEST}.")
    if sys.stdin.isatty() and _asked("again: ") != password:
        raise UserError("the two passwords differ; run the command again.")
    lines = {**known, name: hashed(password)}
    write_text(path, "".join(f"{user}:{value}\n" for user, value in lines.items()))
    path.chmod(0o600)


def _asked(question: str) -> str:
    """A password from the terminal, unseen, or a line of standard input."""
    return getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _digest(password: str, salt: bytes) -> str:
    return hashlib.scrypt(password.encode("utf-8"), salt=salt, n=COST, r=BLOCK, p=PARALLEL).hex()
