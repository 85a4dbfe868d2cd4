"""What a run folder says of its run, and when another start goes on with it."""

from pathlib import Path
from typing import Any

import pytest

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.generators.run_folder import describe_run


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
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"loop\.steps was 100, now 50"):
        describe_run(tmp_path, "diffusion", {}, described(50))
    with pytest.raises(UserError, match=r"loop\.rate was 0\.001, now 0\.1"):
        describe_run(tmp_path, "diffusion", {}, described(200, rate=0.1))
    assert (tmp_path / "run.json").read_bytes() == before
