"""What each rater is shown in which order: shuffled, with real images and repeats that nobody can tell apart."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.core.seeds import numpy_generator
from medloom.data.manifest import Manifest
from medloom.feedback.ratings.entries import PRACTICE, RATE, REAL, SYNTHETIC, Item, Plan, Presentation
from medloom.feedback.ratings.images import items_of
from medloom.feedback.ratings.rubric import ORIGIN, PAIRS


@dataclass(frozen=True)
class PlanOptions:
    """How images are shown.

    Attributes:
        blind: whether they are shuffled, and their origin hidden.
        real_fraction: hidden real images, as a fraction of all.
        repeats: hidden repeats, as a fraction of the images.
        round: of rating.
        rubric: that is asked.
        pairs: whether two images of a prompt are compared.
        practice: images of the practice, whose origin is said after each.
        seed: of choice and order.
    """

    blind: bool
    real_fraction: float
    repeats: float
    round: int
    rubric: str
    pairs: bool
    practice: int
    seed: int


@dataclass(frozen=True)
class Pool:
    """The images of a series.

    Attributes:
        sets: the items of each manifest that is rated.
        real: the real images that are hidden among them.
        manifests: the files of all.
    """

    sets: tuple[tuple[Item, ...], ...]
    real: tuple[Item, ...]
    manifests: tuple[str, ...]

    @property
    def rated(self) -> list[Item]:
        """The images of all manifests."""
        return [item for own in self.sets for item in own]

    @property
    def items(self) -> list[Item]:
        """All images."""
        return [*self.rated, *self.real]


def pool_of(manifests: Sequence[Manifest], real: Manifest | None) -> Pool:
    """The images of a series.

    Args:
        manifests: that are rated.
        real: manifest of real images, or None.

    Raises:
        UserError: a file is gone, or an image is rated and real.
    """
    # Whoever names real images says that the others are synthetic.
    source = SYNTHETIC if real is not None else None
    sets, known = list[tuple[Item, ...]](), set[str]()
    for manifest in manifests:
        own = items_of(manifest, source)
        fresh = [item for item in own if item.name not in known]
        if len(fresh) < len(own):
            say(f"{manifest.source}: {len(own) - len(fresh)} images are in another manifest too, and are shown once.")
        known |= {item.name for item in fresh}
        sets.append(tuple(fresh))
    reals = [] if real is None else items_of(real, REAL)
    contents = {item.content for own in sets for item in own}
    if both := [item for item in reals if item.content in contents]:
        raise UserError(
            f"--rating-real: {len(both)} of its images are also rated as synthetic ones ({both[0].path.name});"
            " leave them out of one of the two tables."
        )
    names = [str(manifest.source) for manifest in (*manifests, *([] if real is None else [real]))]
    return Pool(tuple(sets), tuple(reals), tuple(names))


def plans_of(pool: Pool, raters: Sequence[str], options: PlanOptions) -> list[Plan]:
    """The sessions of a round: of each rater one, and a practice before it where it is asked for.

    Args:
        pool: the images.
        raters: their names.
        options: how images are shown.

    Raises:
        UserError: too few images, or no two images of one prompt.
    """
    practised = _practice(pool, options)
    shown = {each.item for each in practised}
    fresh = [item for item in pool.rated if item.name not in shown]
    if not fresh:
        raise UserError(f"--practice {options.practice} leaves no image to be rated; give a smaller number.")
    drawn = _drawn_real(pool, options, fresh, shown)
    plans = []
    for rater in raters:
        common = (options.round, options.seed, options.blind, pool.manifests, 0.0)
        if practised:
            plans.append(Plan(rater, -options.round, PRACTICE, ORIGIN.name, *common, tuple(practised)))
        random = numpy_generator(options.seed, "rating order", options.round, "".join(rater.split()).casefold())
        if options.pairs:
            series = _paired(pool, shown, random, options.blind)
            plans.append(Plan(rater, options.round, RATE, PAIRS.name, *common, tuple(series)))
            continue
        order = [item.name for item in (*fresh, *drawn)]
        if options.blind:
            order = [order[k] for k in random.permutation(len(order))]
        series = with_repeats(order, round(options.repeats * len(order)), random)
        plans.append(Plan(rater, options.round, RATE, options.rubric, *common, tuple(series)))
    return plans


def with_repeats(order: Sequence[str], repeats: int, random: np.random.Generator) -> list[Presentation]:
    """A series with hidden repeats of some of its images, each at least a third of the series after the first showing.

    Args:
        order: names of the images; each is shown once in this order.
        repeats: number of images that are shown again; at most all.
        random: draws where, and which.

    Examples:
        >>> from medloom.core.seeds import numpy_generator
        >>> from medloom.feedback.ratings.plan import with_repeats
        >>> series = with_repeats("abcd", 1, numpy_generator(0))
        >>> len(series), sum(each.repeat for each in series)
        (5, 1)
    """
    total = len(order) + repeats
    apart = -(-total // 3)
    # In the second half, so that as many images lie a third before as there are repeats: N / 6 and more before the
    # first, one more with each.
    half = total - total // 2
    places = set(map(int, half + random.choice(total // 2, repeats, replace=False))) if repeats else set()
    series, left, again = list[Presentation](), list(order), set[str]()
    for place in range(total):
        if place not in places:
            series.append(Presentation(left.pop(0)))
            continue
        before = [each.item for each in series[: place - apart + 1] if not each.repeat and each.item not in again]
        chosen = before[int(random.integers(len(before)))]
        again.add(chosen)
        series.append(Presentation(chosen, repeat=1))
    return series


def _practice(pool: Pool, options: PlanOptions) -> list[Presentation]:
    """Images whose origin is known, half of them real; the same for all raters."""
    if not options.practice:
        return []
    half = options.practice // 2
    if len(pool.real) <= half or len(pool.rated) <= options.practice - half:
        raise UserError(
            f"--practice {options.practice} takes {half} real images and {options.practice - half} of those that are"
            f" rated, and leaves some of each, but there are {len(pool.real)} and {len(pool.rated)}; give a smaller"
            " number, or more images with --rate and --rating-real."
        )
    random = numpy_generator(options.seed, "practice")
    chosen = [*_some(pool.real, half, random), *_some(pool.rated, options.practice - half, random)]
    return [Presentation(chosen[k].name) for k in random.permutation(len(chosen))]


def _drawn_real(pool: Pool, options: PlanOptions, rated: Sequence[Item], practised: set[str]) -> list[Item]:
    """Real images that are hidden among the others, of their modalities as far as there are."""
    if not pool.real or options.pairs:
        return []
    modalities = {item.modality for item in rated}
    there = [item for item in pool.real if item.name not in practised]
    alike = [item for item in there if item.modality in modalities]
    wanted = max(1, round(options.real_fraction / (1 - options.real_fraction) * len(rated)))
    if not alike:
        raise UserError(
            f"--rating-real: none of its {len(there)} images is of a modality that is rated"
            f" ({', '.join(sorted(modalities))}); raters would know the real ones by it."
        )
    if len(alike) < wanted:
        say(f"{len(alike)} real images are hidden instead of {wanted}: --rating-real has no more of these modalities.")
    return _some(alike, wanted, numpy_generator(options.seed, "real images", options.round))


def _paired(pool: Pool, practised: set[str], random: np.random.Generator, blind: bool) -> list[Presentation]:
    """Pairs of images of one prompt, each image once: of two manifests one of each, else two of the one.

    Raises:
        UserError: no prompt has two images.
    """
    pairs = list[tuple[str, str]]()
    groups = [_by_prompt([item for item in own if item.name not in practised]) for own in pool.sets]
    if len(groups) == 1:
        for own in groups[0].values():
            pairs += [(own[k], own[k + 1]) for k in range(0, len(own) - 1, 2)]
    elif len(groups) == 2:
        for prompt, own in groups[0].items():
            pairs += zip(own, groups[1].get(prompt, []), strict=False)
    else:
        raise UserError(f"--pairs compares the images of one or two manifests, and --rate names {len(groups)}.")
    if not pairs:
        raise UserError(
            "--pairs: no prompt has two images; generate several for each (--n) or give two manifests of the same"
            " prompts, and name the table of their texts with --conditions where they have none."
        )
    if blind:
        pairs = [pairs[k] for k in random.permutation(len(pairs))]
    sides = random.permutation(len(pairs)) % 2 if blind else np.zeros(len(pairs), int)
    return [Presentation(*(pair[::-1] if side else pair)) for pair, side in zip(pairs, sides, strict=True)]


def _by_prompt(items: Sequence[Item]) -> dict[tuple[str, str], list[str]]:
    """The images of each prompt: of a text, or of a row where the manifest has no texts."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        if prompt := item.text or str(item.cells.get("source_id") or ""):
            found[prompt, item.modality].append(item.name)
    return found


def _some(items: Sequence[Item], count: int, random: np.random.Generator) -> list[Item]:
    """Some of the items, in their order."""
    return [items[k] for k in sorted(random.permutation(len(items))[:count])]
