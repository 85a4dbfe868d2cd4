"""Token generators: seeds, trajectories that are scored again, guidance, edits, two stages, figures of validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from token_rows import CODES, NETWORK, factual, generator_of, randomise, task_of, tokenizer_of

from medloom.core.errors import UserError
from medloom.generators.sampling import Edit, TokenSampling
from medloom.generators.storage import load_generator
from medloom.generators.tokens.generator import TokenGenerator, nearest
from medloom.networks.tokenizer import load_tokenizer

FACTUAL = factual()
OTHER = replace(FACTUAL, text="a large square on the right", modality="Square")


def ready(**network: object) -> TokenGenerator:
    generator = generator_of(2, replace(NETWORK, **network))
    randomise(generator.model)
    return generator


def test_an_image_is_a_function_of_its_condition_and_seed() -> None:
    generator, sampling = ready(), TokenSampling(steps=4)
    conditions, seeds = [FACTUAL, OTHER, FACTUAL], [3, 9, 4]
    together = generator.sample(conditions, seeds, sampling)
    for row, (condition, seed) in enumerate(zip(conditions, seeds, strict=True)):
        alone = generator.sample([condition], [seed], sampling)[0]
        torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=0)
    assert not torch.equal(together[0], together[2])


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_trajectory_is_scored_again(guidance: float) -> None:
    generator = ready()
    sampling = TokenSampling(
        steps=5, guidance=guidance, guidance_schedule="linear", temperature=1.3, annealing=0.5, top_k=9, top_p=0.9
    )
    made = generator.trajectory([FACTUAL, OTHER], [1, 2], sampling)
    for step, again in zip(made.steps, generator.log_probabilities(made), strict=True):
        torch.testing.assert_close(again, step.log_probabilities, atol=1e-4, rtol=0)
    sum(again.sum() for again in generator.log_probabilities(made)).backward()
    assert generator.model.network.head.weight.grad is not None
    # Decoded once more, the same.
    assert torch.equal(generator.trajectory([FACTUAL, OTHER], [1, 2], sampling).steps[-1].after, made.steps[-1].after)


def test_guidance_goes_beyond_the_condition() -> None:
    """With scale s the logits are those without the parts plus s times what the parts add."""
    generator = ready()
    tokens = torch.full((1, generator.model.network.length), CODES)

    def logits(scale: float, **by_part: float) -> torch.Tensor:
        sampling = TokenSampling(guidance=scale, guidance_by_part=by_part, cutoff=0.0)
        return generator.logits([FACTUAL], sampling)(tokens, 0.5)

    none, told, guided = logits(0.0), logits(1.0), logits(3.0)
    torch.testing.assert_close(guided, none + 3 * (told - none), atol=1e-4, rtol=1e-4)
    modality = logits(1.0, text=0.0)
    torch.testing.assert_close(logits(1.0, text=2.0), modality + 2 * (told - modality), atol=1e-4, rtol=1e-4)


def test_guidance_brings_back_nothing_that_the_condition_makes_unlikely() -> None:
    generator = ready()
    tokens = torch.full((1, generator.model.network.length), CODES)

    def logits(scale: float, cutoff: float) -> torch.Tensor:
        return generator.logits([FACTUAL], TokenSampling(guidance=scale, cutoff=cutoff))(tokens, 0.5)

    told, guided = logits(1.0, 0.0).softmax(-1), logits(3.0, 0.9)
    unlikely = (told < 0.9 / CODES) & (told < told.amax(-1, keepdim=True))
    assert 0 < unlikely.sum() < unlikely.numel()
    assert torch.equal(guided == -torch.inf, unlikely)
    torch.testing.assert_close(guided[~unlikely], logits(3.0, 0.0)[~unlikely])


def prior_image(generator: TokenGenerator) -> torch.Tensor:
    """The prior image of FACTUAL in the model's space, `(1, C, *size)`."""
    return torch.from_numpy(generator.reader.prior(FACTUAL))[None]


def test_edits_stay_outside_of_a_region_and_start_from_the_prior_image() -> None:
    generator = ready(prior="channels")
    prior = prior_image(generator)
    earlier = generator.tokens_of(prior).flatten(1)
    region = np.zeros((16, 16), np.int16)
    region[8:] = 1
    sampling, edit = TokenSampling(steps=3), Edit(region=region)
    made = generator.trajectory([FACTUAL], [1], sampling, edit)
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[2:] = True
    assert torch.equal(made.start.tokens[0] == CODES, inside.flatten())
    assert torch.equal(made.steps[-1].after[0][~inside.flatten()], earlier[0][~inside.flatten()])
    edited = generator.sample([FACTUAL], [1], sampling, edit)
    torch.testing.assert_close(edited[..., :8, :], prior[..., :8, :])
    half = generator.trajectory([FACTUAL], [1], sampling, Edit("prior", 0.5))
    kept = half.start.tokens[0] < CODES
    assert int(kept.sum()) == 8 and torch.equal(half.steps[-1].after[0][kept], earlier[0][kept])
    none = generator.trajectory([replace(FACTUAL, prior=None)], [1], sampling)
    assert (none.start.tokens == CODES).all()


def test_a_residual_edit_changes_the_prior_image_by_what_decoding_changed() -> None:
    generator = ready(prior="channels")
    prior = prior_image(generator)
    conditions, sampling = [FACTUAL, replace(FACTUAL, prior=None)], TokenSampling(steps=3)
    decoded = generator.sample(conditions, [1, 2], sampling)
    edited = generator.sample(conditions, [1, 2], sampling, Edit(residual=True))
    changed = generator.images_of(generator.trajectory(conditions, [1, 2], sampling).steps[-1].after)
    smooth = generator.tokenizer.reconstruct(prior)
    torch.testing.assert_close(edited[:1], (prior + changed[:1] - smooth).clamp(-1, 1))
    torch.testing.assert_close(edited[1], decoded[1])


def test_a_second_stage_is_conditioned_on_the_tokens_of_the_first(tmp_path: Path) -> None:
    masked = replace(NETWORK, mask="channels", mask_classes=(1, 2))
    first = generator_of(2, masked, size=8)
    second = generator_of(2, masked, first=first)
    for generator in (first, second):
        randomise(generator.model)
    sampling, labels = TokenSampling(steps=4), second.mask_labels([FACTUAL])
    made = second.trajectory([FACTUAL], [7], sampling)
    assert made.coarse is not None and made.coarse.shape == (1, 2, 2)
    other = second.logits([FACTUAL], sampling, labels, None, (made.coarse + 1) % CODES)
    same = second.logits([FACTUAL], sampling, labels, None, made.coarse)
    tokens = torch.full((1, 16), CODES)
    assert not torch.allclose(other(tokens, 0.0), same(tokens, 0.0))
    task = task_of(second, coarse=(np.zeros((8, 2, 2), np.int32),) * 2)
    (batch,) = next(task.batches(0, 0, 1))
    task.phases()[0].loss(second.model, batch)[0].backward()
    assert second.model.network.coarse.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in first.model.parameters())
    task.save_model(tmp_path / "model")
    images = second.sample([FACTUAL], [7], sampling)
    assert torch.equal(load_generator(tmp_path / "model").sample([FACTUAL], [7], sampling), images)


def test_validation_says_the_loss_by_share_of_masked_tokens(tmp_path: Path) -> None:
    task = task_of(ready())
    figures = task.validate(tmp_path, 1)
    shares = {name for name in figures if "masked" in name}
    assert len(shares) == 6 and all(np.isfinite(value) for value in figures.values())
    assert task.validate(tmp_path, 1) == figures


def test_losses_are_of_masked_tokens_alone() -> None:
    task = task_of(ready())
    task.generator.model.eval()
    (batch,) = next(task.batches(0, 0, 1))
    losses = task._losses(task.generator.model, batch)
    changed = batch.images.clone().flatten(1)
    known = ~batch.masked
    inputs = torch.where(known, changed, torch.full_like(changed, CODES)).long()
    logits = task.generator.model(inputs, batch.condition)
    scores = logits.log_softmax(-1).gather(2, changed.long()[..., None])[..., 0]
    wanted = -(scores * batch.masked).sum(1) / batch.masked.sum(1)
    torch.testing.assert_close(losses, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"steps": 17}, "--steps 17: each step decodes at least one of 16 tokens"),
        ({"temperature": 0.0}, "--sampling temperature=0.0"),
        ({"precision": "fp16"}, "--sampling precision=fp16: allowed are fp32, bf16"),
        ({"guidance_schedule": "cosine"}, "--sampling guidance_schedule=cosine: allowed are constant, linear"),
        ({"guidance_by_part": {"mask": 2.0}}, "condition part with a guidance scale 'mask'"),
    ],
)
def test_sampling_that_does_not_fit(sampling: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready().check_sampling(TokenSampling(**sampling))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"start": "inversion"}, "--start inversion: tokens have no noise to invert"),
        ({"start": "prior"}, "--start prior: the model takes no prior image"),
        ({"residual": True}, "--residual: the model takes no prior image"),
        ({"region": np.ones((16, 16), np.int16)}, "--region: the model takes no prior image"),
        ({"strength": 0.5}, "--strength goes with --start prior"),
    ],
)
def test_edits_that_do_not_fit(edit: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready().check_sampling(TokenSampling(), Edit(**edit))


@pytest.mark.parametrize(("dims", "quantizer"), [(2, "ema"), (2, "gradient"), (2, "fsq"), (3, "ema"), (3, "fsq")])
def test_tokenizers_give_tokens_and_images_and_are_read_back(dims: int, quantizer: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(dims, quantizer=quantizer)
    images = torch.rand(2, 1, *(16,) * dims) * 2 - 1
    tokens = tokenizer.tokens(images)
    assert tokens.shape == (2, *(4,) * dims) and 0 <= tokens.min() <= tokens.max() < CODES
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == images.shape
    # In training the same reconstruction comes with the tokens, and gradients reach the encoder.
    reconstructed, same, cost = tokenizer(images)
    assert torch.equal(same, tokens)
    torch.testing.assert_close(reconstructed, decoded, atol=1e-5, rtol=1e-4)
    (reconstructed.mean() + cost).backward()
    assert next(tokenizer.coder.encoder.parameters()).grad.abs().max() > 0
    tokenizer.save(tmp_path / "vq")
    again = load_tokenizer(tmp_path / "vq").eval()
    assert torch.equal(again.tokens(images), tokens)
    torch.testing.assert_close(again.decode(tokens), decoded)
    with pytest.raises(UserError, match="multiples of 4"):
        tokenizer.grid((18,) * dims)


def test_a_tokenizer_opens_in_diffusers(tmp_path: Path) -> None:
    from diffusers import VQModel

    tokenizer = tokenizer_of(2)
    images = torch.rand(2, 1, 16, 16) * 2 - 1
    tokenizer.save(tmp_path)
    theirs = VQModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        decoded = theirs.decode(theirs.encode(images).latents).sample
        torch.testing.assert_close(decoded, tokenizer.reconstruct(images), atol=1e-5, rtol=1e-4)


def test_labels_at_another_size() -> None:
    labels = torch.from_numpy(np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int)))[None]
    assert nearest(labels, (2, 2)).tolist() == [[[0, 1], [2, 3]]]
    assert torch.equal(nearest(labels, (8, 8)), labels)
