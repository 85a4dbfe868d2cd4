"""Sessions of browsers: of each a hash of what the browser has, never the token itself."""

import time

from medloom.studio.store.database import Database

# A session is over after so many days.
DAYS = 30


class Sessions:
    """The sessions of a studio.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, token: str, user: str, secret: str) -> None:
        """Begin one.

        Args:
            token: hash of the browser's token.
            user: whose.
            secret: what forms of this session have to send.
        """
        with self._database.transaction() as connection:
            connection.execute("insert into sessions values (?, ?, ?, ?)", (token, user, secret, time.time()))

    def get(self, token: str, after: float) -> tuple[str, str] | None:
        """User and secret of a session that was used after a time, or None."""
        found = self._database.rows("select user, secret from sessions where token = ? and used > ?", token, after)
        return (found[0][0], found[0][1]) if found else None

    def forget(self, before: float) -> None:
        """End those that were begun before a time."""
        with self._database.transaction() as connection:
            connection.execute("delete from sessions where used <= ?", (before,))

    def end(self, token: str) -> None:
        """End one."""
        with self._database.transaction() as connection:
            connection.execute("delete from sessions where token = ?", (token,))
