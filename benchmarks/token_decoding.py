"""Decoding of masked tokens: images/s beside a plain loop, at the same network and as many steps.

The plain loop (`benchmarks/baselines/plain_decoding.py`) encodes the text in each step and decides row by row in Python
what is masked again. The network has fresh weights, which take the same time as trained ones. Decoding of the tokens to
pixels is left out of both.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.baselines.plain_decoding import plain_decode
from medloom.core.seeds import initial_weights
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.generators.options import TextOptions
from medloom.generators.sampling import TokenSampling
from medloom.generators.tokens.build import build_generator
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.options import TransformerOptions
from medloom.generators.training_facts import TrainingFacts
from medloom.networks.tokenizer import Tokenizer, TokenizerConfig

FACTOR = 8
TEXTS = ("No acute findings.", "Small left effusion.", "Large right effusion, with consolidation.", "Nodule, left.")


def main(words: list[str]) -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--grid", type=int, default=16)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args(words)
    generator = make_generator(options)
    conditions = [Condition(TEXTS[row % len(TEXTS)], "X-ray") for row in range(options.images)]
    ways: dict[str, Callable[[], object]] = {
        "plain loop, fp32": lambda: _plain(generator, conditions, options.steps),
        "medloom, fp32": lambda: _ours(generator, conditions, options.steps, "fp32"),
        "medloom, bf16": lambda: _ours(generator, conditions, options.steps, "bf16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    # The first turn warms up.
    for turn in range(options.turns + 1):
        for name, way in ways.items():
            taken = _timed(way)
            if turn:
                seconds[name].append(taken)
    print(f"{options.grid} x {options.grid} tokens, {options.layers} layers of {options.width}, K = {options.steps}")
    print("| decoding | images/s (median) | faster by (range over turns) |\n|---|---|---|")
    plain = seconds["plain loop, fp32"]
    for name, own in seconds.items():
        ratios = sorted(slow / fast for slow, fast in zip(plain, own, strict=True))
        rate = options.images / statistics.median(own)
        print(f"| {name} | {rate:.2f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) |")


def make_generator(options: argparse.Namespace) -> TokenGenerator:
    """A network with fresh weights."""
    spec = ImageSpec((options.grid * FACTOR,) * 2, 1, "pad", {"X-ray": Intensity("window", GREY, 0, 255)})
    with initial_weights(0):
        tokenizer = Tokenizer(TokenizerConfig(2, 1, (8, 8, 8, 8), 1, "ema", options.codes, 8)).eval()
    network = TransformerOptions(width=options.width, layers=options.layers, heads=6)
    text = TextOptions(width=384, layers=6, vocabulary=600)
    generator = build_generator(spec, TrainingFacts(TEXTS, ["X-ray"]), tokenizer, network, text, 0)
    generator.model.eval()
    return generator


def _timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _ours(generator: TokenGenerator, conditions: list[Condition], steps: int, precision: str) -> None:
    sampling = TokenSampling(steps=steps, guidance=2.0, cutoff=0.0, precision=precision)
    generator.trajectory(conditions, range(len(conditions)), sampling)


@torch.no_grad()
def _plain(generator: TokenGenerator, conditions: list[Condition], steps: int) -> None:
    model = generator.model
    texts = [f"X-ray: {condition.text}" for condition in conditions]

    def encoded(texts: list[str], modality: str | None) -> dict[str, Tensor]:
        ids, mask = model.text.tokenize(texts)
        indices, views = model.condition.indices([modality] * len(texts), [None] * len(texts))
        tokens, pooled = model.text(ids, mask)
        context, seen, summary = model.condition(tokens, mask, pooled, indices, views, None)
        return {"context": context, "context_mask": seen, "pooled": summary}

    def encode() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return encoded(texts, "X-ray"), encoded([""] * len(texts), None)

    plain_decode(encode, model.network, len(texts), model.network.length, generator.tokenizer.codes, steps, 2.0)
