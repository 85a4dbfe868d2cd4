"""Reinforcement in the training loop: a reward rises, a run that was stopped resumes to the same weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy_rows import CONDITIONS, brightness, taught, tiny_policy

from medloom.core.errors import UserError
from medloom.feedback.reinforcement.options import ReinforcementOptions
from medloom.feedback.reinforcement.policies import policy_of
from medloom.feedback.reinforcement.policy import Policy
from medloom.feedback.reinforcement.rewards import named_rewards, total
from medloom.feedback.reinforcement.task import ReinforcementTask
from medloom.training.devices import make_accelerator
from medloom.training.loop import train
from medloom.training.options import LoopOptions

OPTIONS = ReinforcementOptions(
    iterations=4, prompts=3, group=6, updates=2, times=2, steps=4, learning_rate=2e-3, batch=9, hold=0.0
)
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("v", "grpo"), ("flow", "filtered"))]
STOPPED = [("flow", "nft"), ("tokens", "grpo"), *SLOW]


def task_of(policy: Policy[Any, Any], loop: LoopOptions) -> ReinforcementTask:
    # Levels out of 255 as a number of the order of 1.
    return ReinforcementTask(
        policy, CONDITIONS, lambda images, conditions: brightness(images, conditions) / 255, OPTIONS, 0,
        make_accelerator(loop, "cpu"), lambda out, step: {},
    )  # fmt: skip


def loop_of(iterations: int) -> LoopOptions:
    return replace(OPTIONS.loop(iterations, 0, "fp32", 1), ema=0.0)


def mean_level(task: ReinforcementTask) -> float:
    policy = task.policy
    conditions = [CONDITIONS[k % 3] for k in range(24)]
    rolled = policy.roll(conditions, range(500, 524), np.random.default_rng(0))
    return float(brightness(policy.images(conditions, range(500, 524), rolled), conditions).mean())


RISING = [("flow", "nft"), pytest.param("v", "grpo", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("kind", "objective"), RISING)
def test_a_reward_rises(kind: str, objective: str, tmp_path: Path) -> None:
    loop = replace(loop_of(4), learning_rate=1e-3)
    task = task_of(taught(tiny_policy(kind, objective, steps=6, times=2)), loop)
    before = mean_level(task)
    train(task, loop, tmp_path, make_accelerator(loop, "cpu"))
    assert mean_level(task) > before + 5


@pytest.mark.parametrize(("kind", "objective"), STOPPED)
def test_a_run_that_was_stopped_resumes_to_the_same_weights(kind: str, objective: str, tmp_path: Path) -> None:
    loop = loop_of(3)
    whole = task_of(tiny_policy(kind, objective, 4, 2), loop)
    train(whole, loop, tmp_path / "whole", make_accelerator(loop, "cpu"))
    # Stopped in the middle of an iteration: its images are generated again by the weights that generated them.
    short = replace(loop, steps=3, checkpoint_every=1)
    train(task_of(tiny_policy(kind, objective, 4, 2), short), short, tmp_path / "parts", make_accelerator(short, "cpu"))
    parts = task_of(tiny_policy(kind, objective, 4, 2), loop)
    train(parts, loop, tmp_path / "parts", make_accelerator(loop, "cpu"))
    for (name, one), other in zip(whole.module.state_dict().items(), parts.module.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_what_reads_the_condition_stays_as_it_is(tmp_path: Path) -> None:
    loop = loop_of(1)
    task = task_of(tiny_policy("flow", "nft", 4, 2), loop)
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    train(task, loop, tmp_path, make_accelerator(loop, "cpu"))
    changed = {name for name, value in task.module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("denoiser.") for name in changed)


def test_rewards_are_added_up_by_weight_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards.py").write_text(
        "def good(images, conditions):\n    return [1.0, None, 3]\n"
        "def nan(images, conditions):\n    return [1.0, float('nan'), 3.0]\n"
        "def short(images, conditions):\n    return [1.0]\n"
        "def broken(images, conditions):\n    raise KeyError('side')\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    found = named_rewards(["own_rewards:good", "two:x=0.5"], {"two": lambda rest: lambda images, conditions: [2, 2, 2]})
    images = [None] * 3
    np.testing.assert_array_equal(total(found, images, CONDITIONS), [2.0, np.nan, 4.0])
    for name, said in (
        ("nan", "gave nan for image 2 of 3, of the prompt 'a large square on the right'"),
        ("short", "gave 1 values for 3 images"),
        ("broken", "failed on 3 images, the first of the prompt 'a disc on the left': KeyError"),
    ):
        with pytest.raises(UserError, match=said):
            total(named_rewards([f"own_rewards:{name}"], {}), images, CONDITIONS)
    for words, said in (
        ([], "name at least one"),
        (["own_rewards:none"], "has no function none"),
        (["nowhere:good"], "nowhere cannot be imported"),
        (["own_rewards:good=much"], "'much' is no weight"),
        (["own_rewards:good", "own_rewards:good=2"], "stands twice"),
    ):
        with pytest.raises(UserError, match=said):
            named_rewards(words, {})


def test_a_model_that_cannot_be_reinforced_is_refused() -> None:
    policy = tiny_policy("flow")
    with pytest.raises(UserError, match="objective of a diffusion model"):
        policy_of(policy.generator, "reinforce", policy.options, 4, 2)
    policy.generator.spec = replace(policy.generator.spec, patch=True)
    with pytest.raises(UserError, match="trained on patches"):
        policy_of(policy.generator, None, policy.options, 4, 2)
