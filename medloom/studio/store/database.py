"""The studio's SQLite file and its schema."""

from pathlib import Path

from medloom.core import database

FILE = "studio.sqlite"
# What each version of the schema adds to the one before.
SCHEMAS = (
    """
create table jobs (
    id text primary key, number integer not null, user text not null, command text not null, words text not null,
    form text not null, title text not null, state text not null, queued real not null, started real, ended real,
    message text not null default '', progress text not null default '{}', starts integer not null default 0,
    cancelling integer not null default 0
);
create index jobs_by_state on jobs (state, queued);
create index jobs_by_user on jobs (user, number);
create table models (path text primary key, stamp text not null, facts text not null, refusal text not null);
create table sessions (token text primary key, user text not null, secret text not null, used real not null);
create table uploads (
    id text primary key, user text not null, name text not null, kind text not null, file text not null,
    facts text not null, added real not null, kept integer not null default 0
);
""",
    """
create table readings (
    id text primary key, user text not null, title text not null, question text not null, choices text not null,
    items text not null, seed integer not null, reveals integer not null, made real not null
);
create index readings_by_user on readings (user, made);
create table answers (
    reading text not null, place integer not null, answer text not null, comment text not null, seconds real not null,
    locked real not null, primary key (reading, place)
);
""",
)


class Database(database.Database):
    """The database of a studio's folder.

    Attributes:
        folder: of the studio.

    Args:
        folder: of the studio; the file is made where it is missing.

    Raises:
        UserError: another version of medloom wrote it, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / FILE, SCHEMAS, "job store", "name another folder with --out")
        self.folder = self.path.parent
