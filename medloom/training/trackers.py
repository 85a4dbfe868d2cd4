"""Logs of metrics: logs/metrics.csv (exact, resumable), TensorBoard, and optionally Weights & Biases."""

import csv
import io
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import write_text

HEADER = ("step", "name", "value")


class Trackers:
    """Logs metrics of the main process.

    metrics.csv has one row per value (step, name, value) and holds only what training computed, no times, so that a run
    that was killed and resumed writes the same file as an uninterrupted one.
    """

    def __init__(self, folder: Path, step: int, wandb: str | None, options: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
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
        self._board = _Board(folder, step + 1)
        self._wandb = None
        if wandb:
            try:
                from wandb import init
            except ImportError as error:
                raise UserError("--loop.wandb needs Weights & Biases: pip install 'medloom[wandb]'.") from error
            self._wandb = init(project=wandb, config=dict(options))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values of optimiser step `step`."""
        for name, value in values.items():
            self._writer.writerow((step, name, repr(float(value))))
        self._stream.flush()
        self.log_speed(step, values)

    def log_speed(self, step: int, values: Mapping[str, float]) -> None:
        """Log values that differ from run to run (images/s): not to metrics.csv."""
        for name, value in values.items():
            self._board.add(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


class _Board:
    """Scalars for TensorBoard.

    Written by record, because TensorBoard's own writer puts the computer's name into the file's.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = folder / f"events.out.tfevents.{int(time.time())}.medloom.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._records = RecordWriter(path.open("wb"))
        self._write(Event(file_version="brain.Event:2"))
        # What a killed run logged of later steps is not shown.
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.SessionStatus.START)))

    def add(self, name: str, value: float, step: int) -> None:
        """Log a value of a step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=float(value))])))

    def close(self) -> None:
        """Flush and close."""
        self._records.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()


def read_metrics(path: Path) -> list[tuple[int, str, str]]:
    """The rows of a metrics.csv; a last line that was cut short by a kill is ignored."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(whole)))[1:]
    return [(int(row[0]), row[1], row[2]) for row in rows]
