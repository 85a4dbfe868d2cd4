"""What models can be asked, by the folder of their run, as the worker found out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medloom.studio.store.database import Database


class Models:
    """What is known of the models of a studio.

    Args:
        database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, path: Path, stamp: str, facts: Mapping[str, Any], refusal: str = "") -> None:
        """Keep what a model can be asked, or why it cannot be used."""
        with self._database.transaction() as connection:
            connection.execute(
                "insert or replace into models values (?, ?, ?, ?)", (str(path), stamp, json.dumps(facts), refusal)
            )

    def get(self, path: Path, stamp: str) -> tuple[dict[str, Any], str] | None:
        """What a model can be asked, and why it cannot be used; None where that is not known of these files."""
        query = "select facts, refusal from models where path = ? and stamp = ?"
        found = self._database.rows(query, str(path), stamp)
        return (json.loads(found[0][0]), found[0][1]) if found else None
