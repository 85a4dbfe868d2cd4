"""Logs of metrics: logs/metrics.csv (exact, resumable), TensorBoard, and optionally Weights & Biases."""

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import explained_disk_errors, make_folder, require_held, write_text

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
        self._board = _Board(folder, step)
        self._wandb = None
        if wandb:
            try:
                from wandb import init
            except ImportError as error:
                raise UserError("--loop.wandb needs Weights & Biases: pip install 'medloom[wandb]'.") from error
            self._wandb = init(project=wandb, config=dict(options))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values of optimiser step `step`."""
        # The open files would take them even if their folder was removed.
        require_held(self.path)
        with explained_disk_errors(self.path):
            for name, value in values.items():
                self._writer.writerow((step, name, repr(float(value))))
            self._stream.flush()
        self.log_speed(step, values)

    def log_speed(self, step: int, values: Mapping[str, float]) -> None:
        """Log values that differ from run to run (images/s): not to metrics.csv."""
        with explained_disk_errors(self.path):
            self._board.add(step, values)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


class _Board:
    """A file of scalars as TensorBoard reads it.

    torch's SummaryWriter has a thread of its own, which writes late and prints a traceback where it cannot, and puts
    the computer's name into the file's.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._stream = (folder / f"events.out.tfevents.{time.time_ns()}").open("ab")
        self._records = RecordWriter(self._stream)
        self._write(file_version="brain.Event:2")
        # What a killed run wrote beyond its checkpoint is not shown.
        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        entries = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=entries))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, **values: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **values).SerializeToString())
        self._stream.flush()


def read_metrics(path: Path) -> list[tuple[int, str, str]]:
    """The rows of a metrics.csv; a last line that was cut short by a kill is ignored."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(whole)))[1:]
    return [(int(row[0]), row[1], row[2]) for row in rows]
