"""The GAN's Task: what each phase changes and at which rate, exact resume, pairs, and what can be left out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gan_rows import GAN, LOOP, NETWORK, SIZE, data_of, generator_of, images_of, label_maps, randomise, rows_of, task_of

from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_folder
from medloom.core.mask_spec import MaskSpec
from medloom.generators.gan.adversary import compressed, expanded
from medloom.generators.gan.losses import correlation_loss
from medloom.generators.gan.options import GANOptions, ImageNetworkOptions
from medloom.generators.gan.pairing import Unpaired
from medloom.generators.gan.task import BETAS, GANTask
from medloom.generators.sampling import GANSampling
from medloom.generators.storage import load_generator
from medloom.generators.volumes import Tiling, WholeMask
from medloom.training.devices import make_accelerator
from medloom.training.loop import Loop, train
from medloom.training.options import LoopOptions

UNPAIRED = replace(GAN, unpaired=True)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(before: dict[str, torch.Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("gan", [GAN, UNPAIRED, replace(GAN, norm="spectral", adversary="hinge", feature_weight=1.0)])
def test_each_phase_changes_its_own_networks_and_only_those(gan: GANOptions, tmp_path: Path) -> None:
    task = task_of(generator_of(), gan)
    loop = Loop(task, LOOP, tmp_path, make_accelerator(LOOP, "cpu"))
    batches = next(task.batches(1, 0, 1))  # R1 is due at the second step
    sides = task.pairing.module, task.objective.adversary
    for number, entry in enumerate(loop.prepared):
        own, other = sides[number], sides[1 - number]
        own_before, other_before = weights(own), weights(other)
        figures = loop._phase_step(entry, batches, 1.0)
        assert not same(own_before, own) and same(other_before, other)
        assert all(parameter.grad is None for parameter in other.parameters())
    assert float(figures["discriminator/r1"]) > 0


@pytest.mark.parametrize("gan", [GAN, UNPAIRED])
def test_two_rates_and_the_betas_of_a_gan(gan: GANOptions, tmp_path: Path) -> None:
    task = task_of(generator_of(), replace(gan, discriminator_learning_rate=7e-3))
    task.text_factor = 0.5
    loop = Loop(task, LOOP, tmp_path, make_accelerator(LOOP, "cpu"))
    batches = next(task.batches(0, 0, 1))
    for entry in loop.prepared:
        loop._phase_step(entry, batches, 0.5)
    groups = {entry.phase.name: entry.trainable.optimizer.param_groups for entry in loop.prepared}
    assert sorted(group["lr"] for group in groups["generator"]) == pytest.approx([5e-4, 1e-3])
    assert [group["lr"] for group in groups["discriminator"]] == pytest.approx([3.5e-3])
    assert {group["betas"] for sides in groups.values() for group in sides} == {BETAS} == {(0.5, 0.999)}


def test_r1_is_lazy_and_so_much_stronger() -> None:
    penalties = {}
    for every in (1, 2):
        task = task_of(generator_of(), replace(GAN, r1=3.0, r1_every=every))
        (batch,) = next(task.batches(1, 0, 1))
        phases = task.phases()
        phases[0].loss(phases[0].module, batch)
        loss, figures = phases[1].loss(phases[1].module, batch)
        loss = loss.detach()
        plain = task_of(generator_of(), replace(GAN, r1=0.0))
        plain._made = task._made
        without, _ = plain.phases()[1].loss(plain.phases()[1].module, batch)
        penalties[every] = float(loss - without.detach())
        assert penalties[every] == pytest.approx(0.5 * 3.0 * every * figures["discriminator/r1"].item(), rel=1e-4)
    assert penalties[2] == pytest.approx(2 * penalties[1], rel=1e-4)
    (early,) = next(task.batches(0, 0, 1))
    phases[0].loss(phases[0].module, early)
    assert "discriminator/r1" not in phases[1].loss(phases[1].module, early)[1]


def test_the_discriminator_s_condition_gets_no_gradient_of_its_own() -> None:
    task = task_of(generator_of())
    (batch,) = next(task.batches(0, 0, 1))
    generator, discriminator = task.phases()
    generator.loss(generator.module, batch)
    discriminator.loss(discriminator.module, batch)[0].backward()
    assert all(parameter.grad is None for parameter in generator.module.parameters())
    assert task.objective.adversary.images.projections[0].weight.grad.abs().max() > 0


class Killed(BaseException):
    pass


def train_and_kill(task: GANTask, loop: LoopOptions, out: Path, at: int) -> None:
    def after_step(step: int) -> None:
        GANTask.after_step(task, step)
        if step == at:
            raise Killed

    task.after_step = after_step
    with pytest.raises(Killed):
        train(task, loop, out, make_accelerator(loop, "cpu"))


@pytest.mark.parametrize("gan", [GAN, UNPAIRED])
def test_a_killed_run_resumes_to_the_same_bits(gan: GANOptions, tmp_path: Path) -> None:
    loop = replace(LOOP, steps=8, batch=4, accumulate=2, validate_every=4, checkpoint_every=4, ema=0.9)
    train(task_of(generator_of(), gan, loop), loop, tmp_path / "whole", make_accelerator(loop, "cpu"))
    train_and_kill(task_of(generator_of(), gan, loop), loop, tmp_path / "killed", at=6)
    assert [path.name for path in (tmp_path / "killed" / "state").iterdir()] == ["step-00000004"]
    resumed = task_of(generator_of(), gan, loop)
    train(resumed, loop, tmp_path / "killed", make_accelerator(loop, "cpu"))
    assert resumed.pool.filled == 3
    for folder in ("state", "model"):
        assert hash_folder(tmp_path / "whole" / folder) == hash_folder(tmp_path / "killed" / folder)
    assert hash_file(tmp_path / "whole/logs/metrics.csv") == hash_file(tmp_path / "killed/logs/metrics.csv")
    without = task_of(generator_of(), replace(gan, pool=0), loop)
    train(without, loop, tmp_path / "poolless", make_accelerator(loop, "cpu"))
    assert hash_folder(tmp_path / "poolless" / "model") != hash_folder(tmp_path / "whole" / "model")


def test_batches_are_functions_of_seed_step_and_row() -> None:
    task = task_of(generator_of())
    (whole,) = next(task.batches(3, 0, 1))
    halves = [next(task.batches(3, rank, 2))[0] for rank in range(2)]
    assert halves[0].rows + halves[1].rows == whole.rows
    for name in ("noise", "style"):
        parts = [getattr(half.own, name) for half in halves]
        torch.testing.assert_close(torch.cat(parts), getattr(whole.own, name))
    for name in ("mask_labels", "table"):
        parts = [getattr(half.own.condition, name) for half in halves]
        torch.testing.assert_close(torch.cat(parts), getattr(whole.own.condition, name), equal_nan=True)


def test_without_an_adversary_there_is_one_phase_and_no_pool() -> None:
    task = task_of(generator_of(), replace(GAN, adversary="none"))
    assert [phase.name for phase in task.phases()] == ["generator"] and task.state() == {}
    (batch,) = next(task.batches(0, 0, 1))
    loss, figures = task.phases()[0].loss(task.pairing.module, batch)
    assert set(figures) == {"generator/reconstruction", "generator/correlation"}
    assert loss.item() == pytest.approx(
        2.0 * figures["generator/reconstruction"].item() + 0.5 * figures["generator/correlation"].item(), rel=1e-5
    )


@pytest.mark.parametrize("fusion", ["none", "affine", "cross-attention"])
def test_the_adversary_is_told_what_the_generator_is(fusion: str) -> None:
    task = task_of(generator_of(fusion))
    told = task.objective.adversary.images.projections
    assert len(told) == (0 if fusion == "none" else 2)
    assert ("pooled" in task.pool.entries) == (fusion != "none")
    assert task.generator.takes_text == (fusion != "none")


def test_a_mask_as_numbers_and_back() -> None:
    labels = torch.tensor([[[-1, 0], [1, 2]]])
    channels = generator_of().model.spatial(labels, torch.zeros(1, 1, 2, 2))
    assert compressed(channels).tolist() == [[[0, 1], [2, 3]]]
    assert torch.equal(expanded(compressed(channels), 3), channels)


class WatchedMaps(np.ndarray):
    """Label maps that say which of them are read."""

    read: list[int]

    def __getitem__(self, place: object) -> np.ndarray:
        if isinstance(place, int):
            self.read.append(place)
        return np.asarray(super().__getitem__(place))


def unpaired_steps(task: GANTask, steps: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    for step in range(steps):
        (batch,) = next(task.batches(step, 0, 1))
        yield batch.rows, task.pairing.others(task.data, batch.rows, step)


def test_unpaired_training_never_puts_an_image_beside_its_own_mask() -> None:
    generator = generator_of()
    data = data_of(generator)
    maps = data.labels.view(WatchedMaps)
    maps.read = []
    task = task_of(generator, UNPAIRED, data=replace(data, labels=maps))
    for step, (rows, others) in enumerate(unpaired_steps(task, 40)):
        maps.read.clear()
        (batch,) = next(task.batches(step, 0, 1))
        # The masks of the batch are read at other rows, and no other mask is.
        assert maps.read == list(others) and all(a != b for a, b in zip(rows, others, strict=True))
        assert batch.own.condition.mask_labels is None
        for place, other in enumerate(others):
            labels = torch.from_numpy(data.labels[other]).long()
            assert torch.equal(batch.other.condition.mask_labels[place], labels)
    assert isinstance(task.pairing, Unpaired)


def test_unpaired_partners_change_from_step_to_step_and_do_not_depend_on_the_batch() -> None:
    task = task_of(generator_of(), UNPAIRED)
    partners = {task.pairing.others(task.data, [3], step)[0] for step in range(60)}
    assert partners == set(range(8)) - {3}
    assert task.pairing.others(task.data, [3, 5], 7)[1] == task.pairing.others(task.data, [5], 7)[0]


def test_unpaired_training_uses_images_without_masks_and_needs_two_masks() -> None:
    generator = generator_of()
    data = data_of(generator)
    conditions = [replace(c, mask=None) if row > 2 else c for row, c in enumerate(data.conditions)]
    task = task_of(generator, UNPAIRED, data=replace(data, conditions=conditions))
    assert {other for _, others in unpaired_steps(task, 20) for other in others} == {0, 1, 2}
    with pytest.raises(UserError, match="at least two training rows with masks"):
        task_of(generator, UNPAIRED, data=replace(data, usable=range(2, 8), conditions=conditions))


def learn(gan: GANOptions, steps: int, network: ImageNetworkOptions) -> tuple[GANTask, float]:
    """Train on boxes; the task, and the correlation of images of unseen masks with what they should be."""
    generator = generator_of("affine", network)
    loop = replace(LOOP, steps=steps, batch=8, learning_rate=4e-3, log_every=steps, validate_every=steps, ema=0.9)
    task = task_of(generator, gan, loop, data_of(generator, 32))
    optimizers = [torch.optim.Adam(phase.module.parameters(), 4e-3, BETAS) for phase in task.phases()]
    for _, (batch,) in zip(range(steps), task.batches(0, 0, 1), strict=False):
        for phase, optimizer in zip(task.phases(), optimizers, strict=True):
            optimizer.zero_grad()
            phase.loss(phase.module, batch)[0].backward()
            optimizer.step()
        task.after_step(batch.step + 1)
    unseen = label_maps(44)[32:]
    images = generator.sample(rows_of(44)[32:], range(12))
    return task, 1.0 - float(correlation_loss(images, torch.from_numpy(images_of(unseen))))


def test_images_follow_masks_learnt_without_an_adversary() -> None:
    assert learn(replace(GAN, adversary="none"), 60, NETWORK)[1] > 0.9


@pytest.mark.slow
def test_images_follow_masks_learnt_against_an_adversary_alone() -> None:
    gan = replace(GAN, reconstruction_weight=0.0, correlation_weight=0.0, width=16)
    assert learn(gan, 150, replace(NETWORK, kind="unet"))[1] > 0.6


@pytest.mark.slow
def test_images_follow_masks_and_masks_are_found_without_a_pair() -> None:
    # Cycle terms that outweigh the adversary let a wrong colouring stand: it comes back to itself as well.
    weights_of_cycles = {"reconstruction_weight": 1.0, "correlation_weight": 0.0, "mask_weight": 0.5}
    gan = replace(UNPAIRED, adversary="hinge", width=8, scales=1, pool=50, **weights_of_cycles)
    task, correlation = learn(gan, 200, NETWORK)
    assert correlation > 0.6
    unseen = label_maps(44)[32:]
    with torch.no_grad():
        found = task.pairing.cycle.inverse(torch.from_numpy(images_of(unseen))).argmax(1)
    wanted = task.pairing.cycle.classes(torch.from_numpy(unseen).long())
    assert float((found == wanted).float().mean()) > 0.8


def test_an_image_depends_on_its_seed_alone() -> None:
    task, _ = learn(replace(GAN, adversary="none", reconstruction_weight=0.1), 5, NETWORK)
    conditions = rows_of(4)
    images = task.generator.sample(conditions, [3, 4, 5, 6])
    alone = task.generator.sample(conditions[2:3], [5])
    torch.testing.assert_close(images[2:3], alone, atol=1e-5, rtol=0)
    other = task.generator.sample(conditions[2:3], [7])
    assert (other - alone).abs().max() > 1e-4 and images.abs().max() <= 1


def whole_of(labels: np.ndarray, overlap: float = 0.5) -> WholeMask:
    return WholeMask(labels, Tiling((SIZE, SIZE), overlap, batch=2))


def test_a_whole_image_of_one_window_is_the_patch() -> None:
    generator, labels, condition = generator_of(), label_maps(1)[0], rows_of(1)[0]
    randomise(generator.model)
    whole = generator.sample_windows(condition, 3, whole_of(labels))
    positions = torch.tensor([[[-1.0, 1.0], [-1.0, 1.0]]])
    patch = generator.sample_patches([condition], [3], torch.from_numpy(labels)[None].long(), positions)
    torch.testing.assert_close(whole[None], patch, atol=1e-6, rtol=0)


def test_a_whole_image_has_its_mask_s_size_and_no_seam() -> None:
    generator, condition = generator_of(), rows_of(1)[0]
    randomise(generator.model)
    labels = np.zeros((40, 7), np.int16)  # longer than a window, and narrower
    labels[5:30, 2:5] = 1
    made = generator.sample_windows(condition, 3, whole_of(labels))
    assert made.shape == (1, 40, 7) and made.abs().max() <= 1
    assert torch.equal(made, generator.sample_windows(condition, 3, whole_of(labels)))
    assert not torch.equal(made, generator.sample_windows(condition, 4, whole_of(labels)))


def test_the_classes_of_masks_are_kept_with_the_model(tmp_path: Path) -> None:
    generator = generator_of()
    generator.masks = MaskSpec({1: "lung", 2: "heart", 3: "lesion"}, {3: 1})
    generator.save(tmp_path)
    assert load_generator(tmp_path).masks == generator.masks


def test_what_a_gan_refuses() -> None:
    generator = generator_of()
    generator.check_sampling(GANSampling())
    with pytest.raises(UserError, match="^--steps, --guidance, --guidance text=2: a GAN generates"):
        generator.check_sampling(GANSampling(steps=20, guidance=1.0, guidance_by_part={"text": 2.0}))
    with pytest.raises(UserError, match="13 x 13 pixels: this network needs multiples of 2"):
        generator_of(size=13)
    with pytest.raises(UserError, match=r"12 x 12 pixels: gan.scales 2 with gan.layers 3 needs 48 or more"):
        task_of(generator, replace(GAN, layers=3))


def test_a_model_that_reads_no_text_makes_the_same_image_whatever_is_told() -> None:
    generator = generator_of(has_text=False)
    pair = [rows_of(1)[0], replace(rows_of(1)[0], text=None)]
    images = generator.sample(pair, [1, 1])
    assert torch.equal(images[0], images[1]) and not generator.reads_text
    # View and table still reach the network.
    assert generator.takes_text and generator.reads == ("view", "mask")


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (GANOptions, {"adversary": "wgan"}, "allowed are none, lsgan, hinge"),
        (GANOptions, {"scales": 0}, "the setting gan.scales is 0: it has to be at least 1"),
        (GANOptions, {"r1": -1.0}, "the setting gan.r1 is -1.0: it has to be at least 0"),
        (
            GANOptions,
            {"discriminator_learning_rate": 0.0},
            "the setting gan.discriminator_learning_rate is 0.0: it has to",
        ),
        (GANOptions, {"adversary": "none", "feature_weight": 1.0}, "needs an adversary, whose features"),
        (GANOptions, {"adversary": "none", "unpaired": True}, "--gan.unpaired needs an adversary"),
        (GANOptions, {"unpaired": True, "feature_weight": 1.0}, "unpaired has none"),
        (
            GANOptions,
            {"adversary": "none", "reconstruction_weight": 0.0, "correlation_weight": 0.0},
            "nothing to learn from",
        ),
        (ImageNetworkOptions, {"kind": "dynunet"}, "allowed are resnet, unet"),
        (ImageNetworkOptions, {"mask": "none"}, "allowed are channels, spade"),
        (ImageNetworkOptions, {"widths": (8, 16)}, "an entry of attention for each"),
        (ImageNetworkOptions, {"style": -1}, "it has to be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(**values)


def test_cross_attention_needs_attention() -> None:
    with pytest.raises(UserError, match="true at its last resolution of a resnet"):
        replace(NETWORK, fusion="cross-attention", attention=(True, False))
    replace(NETWORK, fusion="cross-attention", kind="unet", attention=(True, False))
    with pytest.raises(UserError, match="--network.fusion film: allowed are"):
        replace(NETWORK, fusion="film")
