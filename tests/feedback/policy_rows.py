"""Tiny policies of every kind that reinforcement trains, and conditions for them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medloom.core.mask_spec import MaskSpec
from medloom.core.seeds import initial_weights, torch_generator
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.feedback.reinforcement.objectives import ObjectiveOptions
from medloom.feedback.reinforcement.policies import policy_of
from medloom.feedback.reinforcement.policy import Policy
from medloom.generators.base import AnyGenerator
from medloom.generators.diffusion.build import build_generator as build_diffusion
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.tokens.build import build_generator as build_tokens
from medloom.generators.tokens.options import TransformerOptions
from medloom.generators.training_facts import TrainingFacts
from medloom.networks.tokenizer import Tokenizer, TokenizerConfig

SIZE = 16
KINDS = ("epsilon", "v", "flow", "tokens")
CONDITIONS = (
    Condition("a disc on the left", "Disc"),
    Condition("a large square on the right", "Square"),
    Condition("a disc on the right", "Disc"),
)
TEXT = TextOptions(width=16, layers=1, vocabulary=300, max_tokens=24)
SPEC = ImageSpec((SIZE, SIZE), 1, "pad", {name: Intensity("window", GREY, 0, 255) for name in ("Disc", "Square")})
FACTS = TrainingFacts([each.text or "" for each in CONDITIONS], ["Disc", "Square"], [], (), MaskSpec())


def generator_of(kind: str) -> AnyGenerator:
    """A tiny generator with random weights in every branch, trained on nothing."""
    generator: AnyGenerator
    if kind == "tokens":
        with initial_weights(0):
            tokenizer = Tokenizer(TokenizerConfig(2, 1, (8, 8, 8), 1, "ema", 16, 4, ())).eval()
        network = TransformerOptions(width=32, layers=2, heads=2, condition_width=16)
        generator = build_tokens(SPEC, FACTS, tokenizer, network, TEXT, 0)
    else:
        noise = NoiseOptions() if kind == "flow" else NoiseOptions(process="ddpm", prediction=kind)
        unet = DenoiserOptions(widths=(16, 16), attention=(False, True), head_width=16, patch=2, condition_width=16)
        generator = build_diffusion(SPEC, FACTS, None, unet, TEXT, noise, 0)
    with torch.no_grad():
        for name, parameter in generator.model.named_parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch_generator(name)))
    generator.model.eval()
    return generator


def tiny_policy(
    kind: str, objective: str | None = None, steps: int = 6, times: int = 2, **options: Any
) -> Policy[Any, Any]:
    """A tiny policy."""
    return policy_of(generator_of(kind), objective, replace(ObjectiveOptions(), **options), steps, times)


def taught(policy: Policy[Any, Any], steps: int = 100) -> Policy[Any, Any]:
    """A diffusion policy after a short training on images of one grey level each, from -0.6 to 0.6."""
    generator, draw = policy.generator, torch.Generator().manual_seed(0)
    parameters = list(policy.network.parameters())
    optimiser = torch.optim.AdamW(parameters, 3e-3)
    inputs = generator.inputs([CONDITIONS[k % 3] for k in range(12)], frozenset(generator.parts)).map(
        lambda tensor: tensor.detach()
    )
    for _ in range(steps):
        level = 1.2 * torch.rand(12, 1, 1, 1, generator=draw) - 0.6
        clean = level + 0.05 * torch.randn(12, 1, SIZE, SIZE, generator=draw)
        time = generator.path.draw_time(torch.rand(12, generator=draw, dtype=torch.float64).clamp(1e-6, 1 - 1e-6))
        example = generator.path.example(clean, torch.randn(clean.shape, generator=draw), time)
        output = generator.model(example.noisy, generator.path.time_embedding_value(time), inputs)
        loss = (generator.path.predicted(output, example.noisy, time) - example.target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # What reinforcement adds to is nothing.
    optimiser.zero_grad()
    return policy


def brightness(images: Any, conditions: Any) -> np.ndarray:
    """A reward: the mean level."""
    return np.array([float(image.pixels.mean()) for image in images])
