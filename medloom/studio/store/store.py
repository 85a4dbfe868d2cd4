"""The job store: one SQLite file that the page server and the worker share, and that survives both."""

from pathlib import Path

from medloom.studio.store.database import Database
from medloom.studio.store.jobs import Jobs
from medloom.studio.store.models import Models
from medloom.studio.store.readings import Readings
from medloom.studio.store.sessions import Sessions
from medloom.studio.store.uploads import Uploads


class Store:
    """All that a studio's folder keeps.

    Attributes:
        folder: of the studio.
        jobs: the queue and what became of it.
        models: what models can be asked.
        readings: blind readings and their answers.
        sessions: of browsers.
        uploads: files that users brought.

    Args:
        folder: of the studio; made where it is missing.

    Raises:
        UserError: another version of medloom wrote it, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        database = Database(folder)
        self.folder = database.folder
        self.jobs = Jobs(database)
        self.models = Models(database)
        self.readings = Readings(database)
        self.sessions = Sessions(database)
        self.uploads = Uploads(database)

    def results(self, job: str) -> Path:
        """The folder of a job's results, as its command makes it."""
        return self.folder / "results" / job

    def previews(self, job: str) -> Path:
        """The folder of what a job's images looked like on their way."""
        return self.folder / "previews" / job

    def priors(self, job: str) -> Path:
        """The folder of the prior image of an edit, as the editor saw it."""
        return self.folder / "priors" / job
