"""One network of a filter's ensemble with its text encoder, and how it learns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.limits import check_limits, limited
from medloom.core.seeds import initial_weights, numpy_generator
from medloom.downstream.networks import Options, autocast, optimise
from medloom.feedback.filter.artefacts import corrupted
from medloom.feedback.filter.network import LEVELS, Quality, QualityConfig, QualityNetwork, rubric, widths_for
from medloom.feedback.filter.ratings import Ratings
from medloom.networks.text import TextEncoder

# Of a batch of real images: thirds that are left as they are; the others are corrupted.
CLEAN = 2
# What strictness of a rater costs: raters differ by some of this.
STRICTNESS_STD = 1.0
AT_ONCE = 128
# Fraction of an axis by which images are moved at most.
SHIFT = 0.06
# Weight of real images while it learns from ratings.
REHEARSAL = 0.5


@dataclass(frozen=True)
class FilterOptions:
    """How a filter learns.

    Attributes:
        members: networks of the ensemble, whose disagreement is the uncertainty.
        warm_steps: optimiser steps on real images, before any rating is seen.
        steps: optimiser steps on ratings.
        batch: images a step.
        learning_rate: peak learning rate; on ratings a third of it after real images.
        hold_out: fraction of the ratings, of other prompts and patients, on which the filter is calibrated.
        seed: of all that is drawn.
    """

    members: int = limited(3, at_least=1, at_most=20)
    warm_steps: int = limited(600, at_least=0)
    steps: int = limited(300, at_least=1)
    batch: int = limited(64, at_least=6)
    learning_rate: float = limited(1e-3, above=0)
    hold_out: float = limited(0.25, above=0, below=0.9)
    seed: int = limited(0, at_least=0)

    def __post_init__(self) -> None:
        check_limits(self, "filter")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images with their prompts.

    Attributes:
        images: `(N, C, *size)` in [-1, 1].
        prompts: in words.
    """

    images: NDArray[np.floating]
    prompts: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


class Member(nn.Module):
    """A network and the text encoder that it reads prompts with."""

    def __init__(self, text: TextEncoder, network: QualityNetwork) -> None:
        super().__init__()
        self.text = text
        self.network = network

    @classmethod
    def fresh(cls, text: TextEncoder, shape: Sequence[int], seed: int) -> "Member":
        """With fresh weights, for images `(C, *size)`."""
        channels, *size = shape
        with initial_weights(seed, "filter"):
            network = QualityNetwork(
                QualityConfig(len(size), channels, text.pooled_width + text.width, widths_for(size))
            )
        return cls(text, network)

    def read(self, prompts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """The vectors of different prompts, and which of them each prompt is."""
        different = sorted(set(prompts))
        ids, mask = self.text.tokenize(different)
        tokens, pooled = self.text(ids, mask)
        # A small encoder learns sooner when its tokens are averaged too.
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        place = {prompt: number for number, prompt in enumerate(different)}
        return torch.cat([pooled, mean], dim=1), [place[prompt] for prompt in prompts]

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Quality:
        """Judge images `(N, C, *size)` in [-1, 1] with their prompts."""
        vectors, places = self.read(prompts)
        quality: Quality = self.network(images, vectors[places])
        return quality

    @torch.no_grad()
    def judge(self, pairs: Pairs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities of the rubric's levels `(N, 3)`, and of an artefact `(N,)`."""
        self.eval()
        levels, artefacts = [], []
        for start in range(0, len(pairs), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            quality = self(_tensor(pairs.images[part]), list(pairs.prompts[part]))
            levels.append(rubric(self.network.log_levels(quality.items)).exp())
            artefacts.append(torch.sigmoid(quality.artefact))
        return torch.cat(levels).numpy(), torch.cat(artefacts).numpy()


def learn_from_real(member: Member, real: Pairs, options: FilterOptions, number: int, verbose: bool) -> None:
    """Before any rating: a real image is realistic and matches its own text, not another one's; a corrupted one is bad.

    So a few hundred ratings need teach no more than what experts think of the generator's images.
    """

    def loss(step: int) -> Tensor:
        draw = numpy_generator("filter", "real", options.seed, number, step)
        return _cost_of_real(member, real, options.batch, draw)

    training = Options(
        steps=options.warm_steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        verbose=verbose,
    )
    optimise(member, training, f"filter {number + 1} on real images", loss)


def _cost_of_real(member: Member, real: Pairs, count: int, draw: np.random.Generator) -> Tensor:
    """The cost of real images, some of them corrupted; each is compared with all texts (Zhai et al. 2023, SigLIP)."""
    network = member.network
    rows = draw.integers(len(real), size=count)
    images = shifted(_tensor(real.images[rows]), draw)
    clean = count * CLEAN // 3
    images = torch.cat([images[:clean], corrupted(images[clean:], draw)])
    spoiled = torch.arange(count) >= clean
    with autocast(images):
        seen, realism = network.see(images)
        artefact = network.artefact(images)
        vectors, places = member.read([real.prompts[row] for row in rows[:clean]])
        compared = network.sharpness * seen[:clean] @ network.read(vectors).T
    # The match stands in both items here, of which one alone is used; so does realism below.
    pairs = network.log_levels(torch.stack([compared, compared], dim=-1).flatten(0, 1))[:, 1]
    own = torch.zeros(clean, len(vectors), dtype=torch.bool)
    own[torch.arange(clean), places] = True
    matches, others = pairs[own.flatten(), LEVELS - 1], pairs[~own.flatten(), 0]
    levels = network.log_levels(torch.stack([realism, realism], dim=-1))[:, 0]
    cost = -levels[~spoiled, LEVELS - 1].mean() - levels[spoiled, 0].mean()
    if len(others):
        cost = cost - matches.mean() - others.mean()
    return cost + F.binary_cross_entropy_with_logits(artefact, spoiled.float())


def learn_from_ratings(
    member: Member,
    images: NDArray[np.floating],
    ratings: Ratings,
    real: Pairs | None,
    options: FilterOptions,
    number: int,
    verbose: bool,
) -> None:
    """Learn what raters say; how strict each rater is is learnt too, and left out afterwards.

    Args:
        member: what learns.
        images: of the ratings, `(N, C, *size)` in [-1, 1].
        ratings: one an image.
        real: real images, which are rehearsed so that other prompts and artefacts stay known; or None.
        options: how.
        number: of the member, which draws ratings anew, with repeats (bagging).
        verbose: whether to show progress.
    """
    seed = options.seed
    strictness = nn.Parameter(torch.zeros(max(1, len(ratings.names)), 2))
    # A part of the module while it learns, so that the optimiser finds it.
    member.register_parameter("strictness", strictness)
    drawn = numpy_generator("filter", "bag", seed, number).integers(len(ratings), size=len(ratings))
    rows_known = drawn if options.members > 1 else np.arange(len(ratings))

    def loss(step: int) -> Tensor:
        draw = numpy_generator("filter", "ratings", seed, number, step)
        rows = rows_known[draw.integers(len(rows_known), size=options.batch)]
        batch = shifted(_tensor(images[rows]), draw)
        with autocast(batch):
            quality = member(batch, [ratings.prompts[row] for row in rows])
        raters = strictness[torch.from_numpy(ratings.raters[rows])]
        total = _cost(member, quality.items - raters, ratings.items[rows], ratings.levels[rows])
        # A normal prior on what raters differ by, counted once over all ratings.
        total = total + (strictness / STRICTNESS_STD).square().sum() / 2 / len(ratings)
        if real is not None:
            total = total + REHEARSAL * _cost_of_real(member, real, options.batch, draw)
        return total

    warm = real is not None and options.warm_steps > 0
    training = Options(
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate / 3 if warm else options.learning_rate,
        weight_decay=0.05,
        seed=seed,
        verbose=verbose,
    )
    optimise(member, training, f"filter {number + 1} on ratings", loss)
    del member.strictness


def _cost(member: Member, judged: Tensor, items: NDArray[np.int64], levels: NDArray[np.int64]) -> Tensor:
    """Minus the mean log-likelihood: of both items where they were rated, else of the rubric's level."""
    log_levels = member.network.log_levels(judged)
    wanted, level = torch.from_numpy(items), torch.from_numpy(levels)
    of_items = log_levels.gather(2, (wanted - 1).clamp(min=0)[..., None])[..., 0].sum(1)
    of_level = rubric(log_levels).gather(1, (level - 1)[:, None])[:, 0]
    return -torch.where((wanted > 0).all(1), of_items, of_level).mean()


def shifted(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Each image moved by a few whole pixels, the border repeated: between pixels its texture would be another one.

    Args:
        images: `(N, C, *size)`.
        draw: of the shifts, up to SHIFT of each axis.
    """
    dims = images.ndim - 2
    most = [max(1, round(SHIFT * length)) for length in images.shape[2:]]
    # From the last axis to the first, as torch pads.
    padded = F.pad(images, [reach for reach in reversed(most) for _ in range(2)], mode="replicate")
    starts = np.stack([draw.integers(0, 2 * reach + 1, len(images)) for reach in most], axis=1)
    cut = []
    for image, start in zip(padded, starts.tolist(), strict=True):
        places = [slice(start[axis], start[axis] + images.shape[2 + axis]) for axis in range(dims)]
        cut.append(image[(slice(None), *places)])
    return torch.stack(cut)


def _tensor(images: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images, np.float32))
