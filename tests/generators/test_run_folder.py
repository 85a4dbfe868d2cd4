"""What a run folder says of its run, and when another start goes on with it."""

from pathlib import Path
from typing import Any

import pytest

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.generators.run_folder import describe_run, is_finished, write_finished


def described(steps: int, rate: float = 1e-3) -> dict[str, Any]:
    return {"identity": {"options": {"data": "a.csv", "loop": {"steps": steps, "rate": rate}}}, "split": {}}


def test_a_run_is_trained_longer_and_says_with_how_many_steps_it_was_begun(tmp_path: Path) -> None:
    assert not describe_run(tmp_path, "diffusion", {}, described(100))
    assert describe_run(tmp_path, "diffusion", {}, described(150))
    assert describe_run(tmp_path, "diffusion", {}, described(200))
    description = read_json(tmp_path / "run.json")
    assert description["identity"]["options"]["loop"]["steps"] == 200
    assert description["begun_with_steps"] == [100, 150]


def test_fewer_steps_or_another_option_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    describe_run(tmp_path, "diffusion", {}, described(100))
    (tmp_path / "state" / "step-00000001").mkdir(parents=True)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"loop\.steps was 100, now 50"):
        describe_run(tmp_path, "diffusion", {}, described(50))
    with pytest.raises(UserError, match=r"loop\.rate was 0\.001, now 0\.1"):
        describe_run(tmp_path, "diffusion", {}, described(200, rate=0.1))
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_run_without_a_step_binds_nobody(tmp_path: Path) -> None:
    describe_run(tmp_path, "diffusion", {}, described(100))
    (tmp_path / "cache").mkdir()
    assert not describe_run(tmp_path, "diffusion", {}, described(50))
    assert read_json(tmp_path / "run.json")["identity"]["options"]["loop"]["steps"] == 50
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("missing", ["run.json", "index.json"])
def test_what_a_killed_start_had_not_written_is_written(missing: str, tmp_path: Path) -> None:
    describe_run(tmp_path, "diffusion", {"exporter": None}, described(100))
    whole = (tmp_path / missing).read_bytes()
    (tmp_path / missing).unlink()
    describe_run(tmp_path, "diffusion", {"exporter": None}, described(100))
    assert (tmp_path / missing).read_bytes() == whole


def test_a_run_is_finished_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    describe_run(tmp_path, "diffusion", {}, described(100))
    (tmp_path / "model").mkdir()
    assert not is_finished(tmp_path, 100)
    (tmp_path / "model_card.md").touch()
    write_finished(tmp_path, 100)
    assert is_finished(tmp_path, 100) and not is_finished(tmp_path, 150)
    (tmp_path / "model_card.md").unlink()
    assert not is_finished(tmp_path, 100)
