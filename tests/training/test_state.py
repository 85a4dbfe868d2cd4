import pytest
import torch
from torch import nn

from medloom.core.errors import UserError
from medloom.training.state import Trainable, load_state, save_state


def trained(device: str) -> Trainable:
    module = nn.Linear(3, 2).to(device)
    return Trainable("loss", module, torch.optim.AdamW(module.parameters(), fused=True))


def test_moments_come_back_on_the_device_of_their_weights(tmp_path):
    first = trained("cpu")
    first.module(torch.ones(1, 3)).sum().backward()
    first.optimizer.step()
    state = save_state(tmp_path, 1, [first], {}, {})
    # A device without memory stands for a GPU: a fused optimiser wants its count of steps there as well.
    second = trained("meta")
    load_state(state, [second])
    moments = [value for own in second.optimizer.state.values() for value in own.values()]
    assert len(moments) == 6
    assert {value.device.type for value in moments} == {"meta"}


@pytest.mark.parametrize("name", ["loss.weights.safetensors", "task.safetensors", "state.json"])
def test_a_state_that_was_cut_short_is_refused_by_name(tmp_path, name):
    first = trained("cpu")
    state = save_state(tmp_path, 3, [first], {}, {})
    (state / name.replace("NAME", first.name)).write_bytes(b"[]")
    with pytest.raises(UserError, match=f"{name} (cannot be read|holds no values)"):
        load_state(state, [first])


def test_moments_come_back_as_they_were(tmp_path):
    first, second = trained("cpu"), trained("cpu")
    first.module(torch.ones(1, 3)).sum().backward()
    first.optimizer.step()
    load_state(save_state(tmp_path, 1, [first], {}, {}), [second])
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        saved, loaded = first.optimizer.state[one], second.optimizer.state[other]
        assert all(torch.equal(saved[key], loaded[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
