"""A training that is asked to end, diverges, or is moved."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from conftest import with_settings
from safetensors.torch import load_file
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.generators.diffusion.task import DiffusionTask
from medloom.recipes.commands import run_command
from medloom.training.loop import finished_steps

SENT = {"SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "SIGINT": signal.SIGINT}


def contents(folder: Path) -> dict[str, bytes]:
    """All files but TensorBoard's, which have times."""
    files = (path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGTERM", "SIGHUP"))]
)
def test_a_signal_ends_with_a_checkpoint(
    name: str, make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    words = ["train", "text2image", "--data", make_manifest()]
    for option, value in {**tiny_options, "loop.steps": 3000, "loop.checkpoint_every": 3000}.items():
        words += [f"--{option}", *(value if isinstance(value, list) else [value])]
    out = tmp_path / "run"
    command = [sys.executable, "-m", "medloom", *with_settings([*words, "--out", out], tmp_path)]
    # Small networks are fastest on one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    metrics = out / "logs" / "metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.is_file() and metrics.read_text().count("\n") > 1):
        time.sleep(0.01)
    process.send_signal(SENT[name])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + SENT[name], said
    step = finished_steps(out)
    assert 0 < step < 3000 and f"stopped after step {step} of 3000; the checkpoint is written." in said
    assert "the same command resumes it" in said and "Traceback" not in said
    assert (out / "model" / "generator.json").is_file() and not (out / "finished.json").exists()
    assert list(out.rglob(".*")) == []


def test_a_run_that_is_stopped_in_its_validation_ends_in_the_same_bytes(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**tiny_options, "data": make_manifest(), "loop.steps": 6, "loop.validate_every": 3}
    run_command("train text2image", **options, out=tmp_path / "whole")
    validate = DiffusionTask.validate

    def interrupted(task: DiffusionTask, out: Path, step: int) -> Mapping[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal comes first")

    monkeypatch.setattr(DiffusionTask, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_command("train text2image", **options, out=tmp_path / "stopped")
    assert finished_steps(tmp_path / "stopped") == 3 and not (tmp_path / "stopped" / "best").exists()
    monkeypatch.setattr(DiffusionTask, "validate", validate)
    run_command("train text2image", **options, out=tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def spoil(monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """One loss that is not a number, at the `bad`-th step."""
    loss = DiffusionTask._loss
    calls = 0

    def once(task: DiffusionTask, module: nn.Module, batch: object) -> tuple[Tensor, Mapping[str, Tensor]]:
        nonlocal calls
        calls += 1
        value, logged = loss(task, module, batch)  # type: ignore[arg-type]
        return (value * float("nan") if calls == bad else value), logged

    monkeypatch.setattr(DiffusionTask, "_loss", once)


def require_finite(folder: Path) -> None:
    weights = list(folder.rglob("*.safetensors"))
    assert weights
    for path in weights:
        assert all(torch.isfinite(value).all() for value in load_file(path).values() if value.is_floating_point()), path


@pytest.mark.parametrize("validation", [0.2, 0.0])
def test_what_is_not_finite_is_never_written(
    validation: float,
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**tiny_options, "data": make_manifest(), "loop.steps": 12, "loop.checkpoint_every": 5}
    options |= {"loop.log_every": 50, "loop.validate_every": 12, "validation": validation}
    spoil(monkeypatch, 7)
    kept = r"the checkpoint of step 5 is retained, and is the model"
    remedy = r"train another run with a lower --loop.learning-rate; --from begins with the model of this one\.$"
    with pytest.raises(UserError, match=rf"diverged at step 7 \({kept}\): the loss is not finite; {remedy}"):
        run_command("train text2image", **options, out=tmp_path / "run")
    assert finished_steps(tmp_path / "run") == 5 and not (tmp_path / "run" / "best").exists()
    require_finite(tmp_path / "run")
    # It was one bad batch: the same command can finish it.
    monkeypatch.undo()
    run_command("train text2image", **options, out=tmp_path / "run")
    assert finished_steps(tmp_path / "run") == 12
    require_finite(tmp_path / "run")


def test_weights_that_are_too_large_are_not_written(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    options = {**tiny_options, "data": make_manifest(), "loop.steps": 40, "loop.learning_rate": 1e18}
    # The precision is fp32 already, and no run is left to begin with.
    remedy = r"is not finite; train again with a lower --loop.learning-rate\.$"
    with pytest.raises(UserError, match=rf"training diverged at step \d+ \(there is no checkpoint yet\): .*{remedy}"):
        run_command("train text2image", **options, out=tmp_path / "run")
    # No step was saved, and so nothing is left that would refuse the corrected command.
    assert not (tmp_path / "run").exists()
    run_command("train text2image", **{**options, "loop.learning_rate": 1e-4, "loop.steps": 2}, out=tmp_path / "run")


@pytest.mark.parametrize(("precision", "other"), [("fp32", ""), ("bf16", ", or train with --loop.precision fp32")])
def test_a_first_step_that_is_not_finite_is_not_due_to_the_learning_rate(
    precision: str,
    other: str,
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**tiny_options, "data": make_manifest(), "loop.precision": precision}
    spoil(monkeypatch, 1)
    said = (
        rf"at step 1 \(there is no checkpoint yet\): the loss is not finite; check the images .* began with{other}\.$"
    )
    with pytest.raises(UserError, match=said):
        run_command("train text2image", **options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_not_finite_is_called_so(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = DiffusionTask._loss

    def steep(task: DiffusionTask, module: nn.Module, batch: object) -> tuple[Tensor, Mapping[str, Tensor]]:
        value, logged = loss(task, module, batch)  # type: ignore[arg-type]
        # Its value stays, and its derivative is infinite.
        return value + (value - value.detach()).abs().sqrt(), logged

    monkeypatch.setattr(DiffusionTask, "_loss", steep)
    options = {**tiny_options, "data": make_manifest()}
    with pytest.raises(UserError, match="the gradient of the loss is not finite"):
        run_command("train text2image", **options, out=tmp_path / "run")


def test_a_validation_that_is_not_finite_never_ranks(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DiffusionTask, "validate", lambda task, out, step: {"validation/loss": float("inf")})
    options = {**tiny_options, "data": make_manifest(), "loop.checkpoint_every": 2, "loop.validate_every": 3}
    with pytest.raises(UserError, match=r"diverged at step 3 .*: validation/loss is not finite"):
        run_command("train text2image", **options, out=tmp_path / "run")
    assert finished_steps(tmp_path / "run") == 2 and not (tmp_path / "run" / "best").exists()


def test_a_first_start_that_fails_leaves_nothing(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(task: DiffusionTask, module: nn.Module, batch: object) -> tuple[Tensor, Mapping[str, Tensor]]:
        raise RuntimeError("sizes of tensors must match")

    manifest = make_manifest()
    with monkeypatch.context() as patch:
        patch.setattr(DiffusionTask, "_loss", fail)
        with pytest.raises(RuntimeError, match="sizes"):
            run_command("train text2image", **tiny_options, data=manifest, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run_command("train text2image", **{**tiny_options, "text.width": 32}, data=manifest, out=tmp_path / "run")


def test_data_and_run_may_be_moved(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = make_manifest()
    out = tmp_path / "run"
    run_command("train text2image", **tiny_options, data=manifest, out=out)
    monkeypatch.chdir(tmp_path)
    more = {**tiny_options, "loop.steps": 6}
    run_command("train text2image", **more, data=Path("data/manifest.csv"), out=out)
    assert finished_steps(out) == 6
    shutil.move(manifest.parent, tmp_path / "elsewhere")
    out = shutil.move(out, tmp_path / "moved")
    run_command("train text2image", **{**more, "loop.steps": 8}, data=tmp_path / "elsewhere" / "manifest.csv", out=out)
    assert finished_steps(Path(out)) == 8
    # Another image under an old name is other data, whatever its path.
    picture = tmp_path / "elsewhere" / "0.png"
    picture.write_bytes((tmp_path / "elsewhere" / "2.png").read_bytes())
    with pytest.raises(UserError, match="holds a run with other options: data was"):
        run_command("train text2image", **more, data=tmp_path / "elsewhere" / "manifest.csv", out=out)


def test_what_a_run_starts_from_may_be_moved(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest()
    first = run_command("train text2image", **tiny_options, data=manifest, out=tmp_path / "first")
    classes = tmp_path / "a"
    shutil.copytree(first, classes)
    more = {**tiny_options, "data": manifest, "out": tmp_path / "second"}
    run_command("train text2image", **more, from_run=first)
    run_command("train text2image", **{**more, "loop.steps": 6}, from_run=classes)
    assert finished_steps(tmp_path / "second") == 6
    run_command("train text2image", **{**tiny_options, "loop.seed": 1}, data=manifest, out=tmp_path / "other")
    with pytest.raises(UserError, match="from_run was content"):
        run_command("train text2image", **{**more, "loop.steps": 8}, from_run=tmp_path / "other")


def test_a_run_that_was_killed_after_its_last_checkpoint_gets_its_card(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    options = {**tiny_options, "data": make_manifest(), "out": tmp_path / "run"}
    run_command("train text2image", **options)
    whole = contents(tmp_path / "run")
    for name in ("model_card.md", "finished.json", "index.json"):
        (tmp_path / "run" / name).unlink()
    shutil.rmtree(tmp_path / "run" / "model")
    run_command("train text2image", **options)
    assert contents(tmp_path / "run") == whole
