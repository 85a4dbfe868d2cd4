"""Many pairs: over several processes, kept on disk, failures told."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import (
    atomic_folder,
    content_stamp,
    explained_disk_errors,
    hash_json,
    read_json,
    remove_leftovers,
    write_json,
)
from medloom.core.image import Image
from medloom.core.progress import progress, say
from medloom.data.images import read_image
from medloom.longitudinal.registration.alignment import Registration, register
from medloom.longitudinal.registration.geometry import Motion
from medloom.longitudinal.registration.options import RegistrationOptions

# Changed when the same options would give another result.
METHOD = 1
FIGURES, PIXELS, INSIDE = "registration.json", "pixels.npy", "inside.npy"


class Pair(NamedTuple):
    """Two images of one patient.

    Attributes:
        prior: file of the earlier one.
        path: file of the later one.
    """

    prior: Path
    path: Path


@dataclass(frozen=True)
class PairResult:
    """What became of one pair.

    Attributes:
        pair: the pair.
        folder: where the registered image lies, or None where the images could not be registered at all.
        reason: why the pair is not to be used, or None where it passed.
        score: as in `Registration`; nan without a folder.
        score_before: likewise.
        motion: what was done to the earlier image, or None without a folder.
    """

    pair: Pair
    folder: Path | None
    reason: str | None
    score: float = math.nan
    score_before: float = math.nan
    motion: Motion | None = None

    @property
    def passed(self) -> bool:
        """Whether the pair may be used."""
        return self.reason is None

    def load(self) -> Registration:
        """The registration as it was computed.

        Raises:
            UserError: there is none, or its files are missing or damaged.
        """
        if self.folder is None:
            raise UserError(f"{self.pair.prior} was not registered to {self.pair.path}: {self.reason}")
        return _loaded(self.folder)


def register_pairs(
    pairs: Sequence[Pair],
    options: RegistrationOptions,
    cache: Path,
    workers: int = 1,
    shown: bool = True,
) -> list[PairResult]:
    """Register every pair, from the cache where it is there; an interrupted run is continued.

    Args:
        pairs: earlier and later files.
        options: of the registration.
        cache: folder; holds a folder a pair, by the files' names, sizes and times, and the options.
        workers: processes; results do not depend on their number.
        shown: whether to show progress, and to say how many pairs failed.

    Returns:
        One result a pair, in the order given. Images that cannot be read or registered are among them, with the reason.

    Raises:
        UserError: fewer than one worker, or a cache that cannot be written.
    """
    if workers < 1:
        raise UserError(f"registration with {workers} workers is not possible; give 1 or more.")
    target = Path(cache) / "registration"
    with explained_disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    wanted = [Pair(Path(prior), Path(path)) for prior, path in pairs]
    # Two processes must not write one folder, so that a pair given twice is registered once.
    distinct, found = list(dict.fromkeys(wanted)), {}
    with progress("registering", len(distinct), "pairs", shown=shown) as advance:
        for result in _over(workers, distinct, options, target):
            found[result.pair] = result
            advance()
    results = [found[pair] for pair in wanted]
    lost = failures(results)
    if shown and lost:
        pair, reason = lost[0]
        say(f"{len(lost)} of {len(pairs)} pairs did not register; the first: {pair.prior} to {pair.path}: {reason}")
    return results


def failures(results: Sequence[PairResult]) -> list[tuple[Pair, str]]:
    """The pairs that did not pass, each with its reason."""
    return [(result.pair, result.reason) for result in results if result.reason is not None]


def _over(workers: int, pairs: Sequence[Pair], options: RegistrationOptions, target: Path) -> Iterator[PairResult]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    pool = Parallel(n_jobs=workers, return_as="generator", batch_size=4 if workers > 1 else 1)
    try:
        yield from pool(delayed(_one)(pair, options, target) for pair in pairs)
    finally:
        if workers > 1:
            # Idle processes would keep their memory, and complain when they are ended later.
            get_reusable_executor().shutdown(wait=True)


def _one(pair: Pair, options: RegistrationOptions, target: Path) -> PairResult:
    """A pair from the cache, or computed and put there; what is wrong with its images is a reason, not the end."""
    missing = [path for path in pair if not path.exists()]
    if missing:
        return PairResult(pair, None, f"{missing[0]} is missing.")
    key = _key(pair, options)
    folder = target / hash_json(key)
    if not (folder / FIGURES).is_file():
        try:
            registration = register(read_image(pair.prior), read_image(pair.path), options)
        except UserError as error:
            return PairResult(pair, None, str(error))
        _save(folder, registration, key)
    figures = read_json(folder / FIGURES)
    return PairResult(
        pair, folder, figures["reason"], figures["score"], figures["score_before"], _motion(figures["motion"])
    )


def _key(pair: Pair, options: RegistrationOptions) -> dict[str, Any]:
    files = [[path.resolve().as_posix(), *content_stamp(path)] for path in pair]
    return {"method": METHOD, "options": asdict(options), "files": files}


def _save(folder: Path, registration: Registration, key: Mapping[str, Any]) -> None:
    """Pixels as they are, float32: an image file of levels would round them, and would call the patient synthetic."""
    image = registration.image
    figures = {
        "key": key,
        "reason": registration.reason,
        "score": registration.score,
        "score_before": registration.score_before,
        "overlap": registration.overlap,
        "motion": asdict(registration.motion),
        "matrix": registration.matrix.tolist(),
        "moving_size": list(registration.moving_size),
        "unit": image.unit,
        "full_scale": None if math.isnan(image.full_scale) else image.full_scale,
        "spacing": image.spacing,
        "affine": None if image.affine is None else image.affine.tolist(),
        "modality": image.modality,
    }
    with atomic_folder(folder) as temporary:
        np.save(temporary / PIXELS, image.pixels, allow_pickle=False)
        np.save(temporary / INSIDE, registration.inside, allow_pickle=False)
        write_json(temporary / FIGURES, figures)


def _loaded(folder: Path) -> Registration:
    figures = read_json(folder / FIGURES)
    pixels, inside = _array(folder / PIXELS), _array(folder / INSIDE)
    image = Image(
        pixels,
        figures["unit"],
        math.nan if figures["full_scale"] is None else figures["full_scale"],
        None if figures["spacing"] is None else tuple(figures["spacing"]),
        None if figures["affine"] is None else np.array(figures["affine"]),
        None if inside.all() else ~inside,
        figures["modality"],
    )
    return Registration(
        image=image,
        matrix=np.array(figures["matrix"]),
        motion=_motion(figures["motion"]),
        moving_size=tuple(figures["moving_size"]),
        score=figures["score"],
        score_before=figures["score_before"],
        overlap=figures["overlap"],
        reason=figures["reason"],
    )


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove its folder and run the same command again."
        ) from error


def _motion(values: Mapping[str, Any]) -> Motion:
    return Motion(tuple(values["translation"]), tuple(values["rotation"]), values["scale"], values["unit"])
