"""Parts of a phase that learn at a rate of their own, and trainings that follow each other in one program."""

import pytest
import torch
from torch import nn

from medloom.core.types import Phase
from medloom.training.devices import make_accelerator
from medloom.training.loop import parameter_groups
from medloom.training.options import LoopOptions


def phase_of(module: nn.Module) -> Phase:
    def loss(network: nn.Module, batch: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        raise AssertionError("not called")

    return Phase("loss", module, loss, 1e-3, learning_rate_factors={"text.": 0.2})


def test_every_parameter_is_in_one_group_and_frozen_ones_in_none() -> None:
    module = nn.ModuleDict({"text": nn.Linear(2, 3), "unet": nn.Linear(3, 2), "frozen": nn.Linear(4, 4)})
    module["frozen"].requires_grad_(False)
    groups = {group["factor"]: group["params"] for group in parameter_groups(phase_of(module))}
    assert groups.keys() == {0.2, 1.0}
    assert [p.shape for p in groups[0.2]] == [p.shape for p in module["text"].parameters()]
    assert [p.shape for p in groups[1.0]] == [p.shape for p in module["unet"].parameters()]


def test_nothing_to_train_is_a_mistake() -> None:
    module = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(phase_of(module))


def test_two_trainings_of_one_program_may_have_two_precisions() -> None:
    for precision, expected in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        accelerator = make_accelerator(LoopOptions(precision=precision), "cpu")
        assert accelerator.mixed_precision == expected


@pytest.mark.parametrize(("native", "expected", "said"), [(True, "bf16", 0), (False, "no", 1)])
def test_the_precision_is_what_the_device_computes_in(
    native: bool, expected: str, said: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("medloom.training.devices.computes_in_bf16", lambda device: native)
    assert make_accelerator(LoopOptions(), "cpu").mixed_precision == expected
    assert not caplog.messages
    # Who asks for it gets it, and learns that it is slow.
    assert make_accelerator(LoopOptions(precision="bf16"), "cpu").mixed_precision == "bf16"
    assert len([own for own in caplog.messages if "emulated" in own]) == said
