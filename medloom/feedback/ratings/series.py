"""Begin a series of ratings, or resume it: from options to the raters' sessions in a store."""

from collections.abc import Sequence
from pathlib import Path

from medloom.core.errors import UserError
from medloom.feedback.ratings.entries import Rater
from medloom.feedback.ratings.images import is_reading_list, read_images
from medloom.feedback.ratings.plan import PlanOptions, plans_of, pool_of
from medloom.feedback.ratings.reading_list import lists_plans
from medloom.feedback.ratings.store import RatingStore, rater_key


def begin_series(
    store: RatingStore,
    raters: Sequence[str],
    manifests: Sequence[Path],
    options: PlanOptions,
    conditions: Path | None = None,
    real: Path | None = None,
) -> list[Rater]:
    """The raters of a store, with their sessions; what the store has already is resumed.

    Args:
        store: of the ratings.
        raters: names; of none, all of the store or of the reading list.
        manifests: that are rated, or reading lists; of none, nothing is added to the store.
        options: how images are shown.
        conditions: table that images were generated from, which has their texts.
        real: manifest of real images that are hidden among the others.

    Raises:
        UserError: nothing to rate, no rater, or images, names or options that cannot be used or differ from those of
            the store.
    """
    for name in raters:
        rater_key(name)
    if not manifests:
        if not store.sessions():
            raise UserError(f"{store.path} has no session yet; name the images that are rated with --rate.")
        if real is not None or conditions is not None:
            raise UserError("--rating-real and --conditions need --rate, the images that are rated.")
        return [store.rater(name) for name in raters] or store.raters()
    opened = [read_images(path, conditions) for path in manifests]
    lists = [manifest for manifest in opened if is_reading_list(manifest)]
    if lists:
        others = len(lists) < len(opened) or real is not None or options.pairs or options.repeats or options.practice
        if others:
            raise UserError(
                f"{lists[0].source} is a reading list, which says itself what is shown: give it with other reading"
                " lists only, without --rating-real, --repeats, --pairs and --practice."
            )
        plans, items = lists_plans(lists, raters, options.rubric, options.round, options.blind)
    else:
        if not raters:
            raise UserError("--raters names who rates, for example --raters anna,ben.")
        pool = pool_of(opened, None if real is None else read_images(real))
        plans, items = plans_of(pool, raters, options), pool.items
    names = list(dict.fromkeys(plan.rater for plan in plans))
    found = store.add_raters(names)
    shown = {name for plan in plans for each in plan.presentations for name in (each.item, each.other)}
    store.add(plans, [item for item in items if item.name in shown])
    return found
