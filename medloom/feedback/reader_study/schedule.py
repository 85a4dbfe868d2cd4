"""Who reads which image in which session, at which place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.feedback.reader_study.cases import SYNTHETIC, StudyImage, arms_of

# Repeats come from the first third of a session and are shown in its last third.
MOST_REPEATS = 1 / 3


@dataclass(frozen=True)
class Reading:
    """One image at one place.

    Attributes:
        rater: who reads it.
        session: 1, 2, ...
        place: in the session, from 1.
        image: what is read.
        repeat: 1 for the hidden repeat, else 0.
    """

    rater: str
    session: int
    place: int
    image: StudyImage
    repeat: int = 0


def schedule(
    images: Sequence[StudyImage], raters: Sequence[str], sessions: int, repeats: float, seed: int
) -> list[Reading]:
    """The readings of all raters: fully crossed, in an order of each rater's own.

    With arms there are as many sessions as arms. A rater sees each case once in a session, in another arm each time;
    every session holds as many images of each arm as can be, and which half of the cases begins with which arm is drawn
    for each rater. Real images, and images without arms, are dealt to the sessions.

    Args:
        images: of the study.
        raters: their names.
        sessions: number of them.
        repeats: fraction of a session's images that are shown again, at least a third of the session later.
        seed: of all draws.

    Raises:
        UserError: another number of sessions than arms, or more sessions than cases.
    """
    arms = arms_of(images)
    if len(arms) > 1 and sessions != len(arms):
        raise UserError(
            f"--sessions {sessions} with {len(arms)} arms ({', '.join(arms)}): a crossover has one session per arm;"
            f" give --sessions {len(arms)}, or leave it out."
        )
    cases = sorted({image.case for image in images if image.source == SYNTHETIC})
    of_case = {(image.case, image.arm): image for image in images if image.source == SYNTHETIC}
    others = [image for image in images if image.source != SYNTHETIC]
    if sessions > len(cases):
        raise UserError(f"--sessions {sessions} for {len(cases)} synthetic cases; give fewer sessions.")
    found = []
    for rater in raters:
        rng = numpy_generator("reader study", seed, rater)
        # Which session a case begins in, or the arm that it begins with: as many of each as can be.
        turns = rng.permutation(np.arange(len(cases)) % sessions)
        dealt = rng.permutation(np.arange(len(others)) % sessions)
        for session in range(sessions):
            if len(arms) > 1:
                chosen = [
                    of_case[case, arms[(turn + session) % len(arms)]] for case, turn in zip(cases, turns, strict=True)
                ]
            else:
                chosen = [of_case[case, arms[0]] for case, turn in zip(cases, turns, strict=True) if turn == session]
            chosen += [image for image, turn in zip(others, dealt, strict=True) if turn == session]
            order = [(chosen[place], 0) for place in rng.permutation(len(chosen))]
            for place, (image, repeat) in enumerate(_with_repeats(order, repeats, rng), 1):
                found.append(Reading(rater, session + 1, place, image, repeat))
    return found


def _with_repeats(
    order: list[tuple[StudyImage, int]], fraction: float, rng: np.random.Generator
) -> list[tuple[StudyImage, int]]:
    """An order with hidden repeats of images of its first third in its last third."""
    third = len(order) // 3
    count = min(round(fraction * len(order)), third)
    again = [order[place][0] for place in rng.permutation(third)[:count]]
    tail = [*order[len(order) - third :], *((image, 1) for image in again)]
    return [*order[: len(order) - third], *(tail[place] for place in rng.permutation(len(tail)))]
