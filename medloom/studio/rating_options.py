"""The options of `medloom studio` about ratings, and the store that they open."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.config import given_options
from medloom.core.errors import UserError
from medloom.core.limits import limited
from medloom.core.options import flag_of, repeated
from medloom.core.output_folder import output_files
from medloom.core.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medloom.studio.web.ratings import Ratings

STORE = "ratings.db"
RATING = (
    "rate", "conditions", "store", "raters", "blind", "rating_real", "real_fraction", "repeats", "round", "pairs",
    "rubric", "practice", "seed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RatingOptions:
    """How images are rated.

    Attributes:
        rate: manifest of images that are rated, as generate, edit and whatif write it, or a reading list with columns
            rater, session, place and item; the studio then opens with its rating pages.
        conditions: table that the images of --rate were generated from; it has the texts that their manifest lacks.
        store: file of the ratings, resumed where it is there (default: ratings.db next to the folder of --out).
        raters: names of the raters, separated by commas.
        blind: show the images shuffled, without names, marks and anything else that says where they are from.
        rating_real: manifest of real images that are hidden among those of --rate.
        real_fraction: hidden real images, as a fraction of all.
        repeats: images that are shown again later, as a fraction of all.
        round: of rating; each round is another session of each rater.
        pairs: compare two images of the same prompt instead of rating single ones.
        rubric: quality (realism, and match to the prompt) or origin (real or synthetic, and how sure).
        practice: images before the rating, of which raters guess whether they are real and then learn it.
        seed: of the choice and the order of rated images.
    """

    rate: tuple[str, ...] = repeated()
    conditions: Path | None = None
    store: Path | None = None
    raters: str | None = None
    blind: bool = False
    rating_real: Path | None = None
    real_fraction: float = limited(0.2, above=0, at_most=0.9)
    repeats: float = limited(0.0, at_least=0, at_most=0.5)
    round: int = limited(1, at_least=1, at_most=1000)
    pairs: bool = False
    rubric: str = limited("quality", words=("quality", "origin"))
    practice: int = limited(0, at_least=0, at_most=200)
    seed: int = 0

    @property
    def rates(self) -> bool:
        """Whether images are rated."""
        return bool(self.rate) or self.store is not None or self.raters is not None


@contextmanager
def rating_series(options: RatingOptions, out: Path, passwords: "Mapping[str, str]") -> "Iterator[Ratings | None]":
    """The ratings that the options open, held by this process alone within the block; None where nothing is rated.

    Args:
        options: of the studio.
        out: folder of the studio.
        passwords: user -> hashed password; empty where nobody has to log in.

    Raises:
        UserError: options that do not belong together, a store that another process serves, or see `begin_series`.
    """
    from medloom.feedback.ratings.plan import PlanOptions
    from medloom.feedback.ratings.series import begin_series
    from medloom.feedback.ratings.store import RatingStore
    from medloom.studio.web.ratings import Ratings

    _check(options)
    if not options.rates:
        yield None
        return
    path = options.store or out.parent / STORE
    names = [name.strip() for name in (options.raters or "").split(",")] if options.raters is not None else []
    with output_files(path, option="--store"):
        plan = PlanOptions(
            options.blind,
            options.real_fraction,
            options.repeats,
            options.round,
            options.rubric,
            options.pairs,
            options.practice,
            options.seed,
        )
        manifests = [Path(manifest) for manifest in options.rate]
        store = RatingStore(path)
        raters = begin_series(store, names, manifests, plan, options.conditions, options.rating_real)
        if passwords and (lacking := [rater.name for rater in raters if rater.name.casefold() not in passwords]):
            raise UserError(
                f"--password-file has no user {lacking[0].casefold()}, and raters log in by their names; add the user"
                f" with --add-user {lacking[0].casefold()}."
            )
        say(f"ratings are kept in {store.path}")
        blind = any(session.blind for session in store.sessions())
        yield Ratings(store, tuple(raters), blind)


def _check(options: RatingOptions) -> None:
    """Refuse options that change nothing, or that exclude each other.

    Raises:
        UserError: for the first one.
    """
    from medloom.core.seeds import check_seed

    check_seed(options.seed)
    given = given_options(options)
    if not options.rates:
        if extra := [name for name in RATING if name in given]:
            raise UserError(f"{flag_of(extra[0])} needs --rate, the images that are rated.")
        return
    if options.real_fraction != RatingOptions.real_fraction and options.rating_real is None:
        raise UserError("--real-fraction needs --rating-real, the images that are hidden.")
    if options.pairs and (options.rating_real is not None or options.repeats):
        raise UserError("--pairs compares images of --rate; leave --rating-real and --repeats out.")
    if options.rate and not options.blind and (options.rubric == "origin" or options.practice):
        raise UserError("--rubric origin and --practice ask what is said where images are not blinded: give --blind.")
    if options.practice and options.rating_real is None:
        raise UserError("--practice needs --rating-real: half of its images are real.")
