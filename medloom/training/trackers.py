"""Logs of metrics: logs/metrics.csv (exact, resumable), TensorBoard, and optionally Weights & Biases."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import make_folder, require_held, write_text

HEADER = ("step", "name", "value")


class Trackers:
    """Logs metrics of the main process.

    metrics.csv has one row per value (step, name, value) and holds only what training computed, no times, so that a run
    that was killed and resumed writes the same file as an uninterrupted one.
    """

    def __init__(self, folder: Path, step: int, wandb: str | None, options: Mapping[str, object]) -> None:
        make_folder(folder)
        self.path = folder / "metrics.csv"
        # Drop what a killed run logged after its last checkpoint: those steps are repeated.
        rows = read_metrics(self.path) if self.path.exists() else []
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((row_step, name, value) for row_step, name, value in rows if row_step <= step)
        write_text(self.path, buffer.getvalue())
        self._stream = self.path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, lineterminator="\n")
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder), purge_step=step + 1)
        self._wandb = None
        if wandb:
            try:
                from wandb import init
            except ImportError as error:
                raise UserError("--loop.wandb needs Weights & Biases: pip install 'medloom[wandb]'.") from error
            self._wandb = init(project=wandb, config=dict(options))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values of optimiser step `step`."""
        # The open file would take them even if its folder was removed.
        require_held(self.path)
        for name, value in values.items():
            self._writer.writerow((step, name, repr(float(value))))
        self._stream.flush()
        self.log_speed(step, values)

    def log_speed(self, step: int, values: Mapping[str, float]) -> None:
        """Log values that differ from run to run (images/s): not to metrics.csv."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_metrics(path: Path) -> list[tuple[int, str, str]]:
    """The rows of a metrics.csv; a last line that was cut short by a kill is ignored."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(whole)))[1:]
    return [(int(row[0]), row[1], row[2]) for row in rows]
