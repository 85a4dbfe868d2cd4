"""Registration of many pairs: by several processes, cached on disk, with reasons for failures, and as a picture."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import (
    atomic_file,
    atomic_folder,
    content_stamp,
    explained_content,
    explained_disk_errors,
    hash_json,
    make_folder,
    read_mapping,
    remove_leftovers,
    write_json,
)
from medloom.core.frames import file_of
from medloom.core.image import FloatArray, Image
from medloom.core.plots import flat
from medloom.core.progress import progress, say
from medloom.core.workers import over_processes
from medloom.data.images import read_image
from medloom.longitudinal.registration.alignment import Registration, clipped, register
from medloom.longitudinal.registration.geometry import Motion, common_space, index_matrix, sample
from medloom.longitudinal.registration.search import RegistrationOptions

# Raise this number when the same options would give another result.
METHOD = 1
RESULT, PIXELS, INSIDE = "registration.json", "pixels.npy", "inside.npy"
TITLES = ("prior", "prior, registered", "current", "registered and current in turn", "current minus registered")
TILES = 8  # of the checkerboard along the longer axis
ROW_INCHES, DOTS = 1.9, 100


class ImagePair(NamedTuple):
    """Two images of one patient.

    Attributes:
        prior: file of the prior image.
        path: file of the current image.
    """

    prior: Path
    path: Path


@dataclass(frozen=True)
class PairResult:
    """The result of one pair.

    Attributes:
        pair: the pair.
        folder: folder of the registered image, or None if the images could not be registered at all.
        reason: why the pair is rejected, or None if it passed.
        score: as in `Registration`; nan without a folder.
        score_before: likewise.
        motion: of the prior image, or None without a folder.
    """

    pair: ImagePair
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
        """Read the registration.

        Raises:
            UserError: there is none, or its files are missing or damaged.
        """
        if self.folder is None:
            raise UserError(f"{self.pair.prior} was not registered to {self.pair.path}: {self.reason}")
        stored, arrays = read_mapping(self.folder / RESULT), []
        for path in (self.folder / PIXELS, self.folder / INSIDE):
            try:
                arrays.append(np.load(path, allow_pickle=False))
            except (OSError, ValueError, EOFError) as error:
                raise UserError(
                    f"{path} cannot be read ({error}): remove its folder and run the same command again."
                ) from error
        pixels, inside = arrays
        return Registration(
            image=Image(
                pixels,
                stored["unit"],
                math.nan if stored["full_scale"] is None else stored["full_scale"],
                None if stored["spacing"] is None else tuple(stored["spacing"]),
                None if stored["affine"] is None else np.array(stored["affine"]),
                None if inside.all() else ~inside,
                stored["modality"],
            ),
            matrix=np.array(stored["matrix"]),
            motion=_motion(stored["motion"]),
            moving_size=tuple(stored["moving_size"]),
            score=stored["score"],
            score_before=stored["score_before"],
            overlap=stored["overlap"],
            reason=stored["reason"],
        )


def register_pairs(
    pairs: Sequence[ImagePair],
    options: RegistrationOptions,
    cache: Path,
    workers: int = 1,
    verbose: bool = True,
) -> list[PairResult]:
    """Register every pair that is not cached yet; an interrupted run is continued.

    Args:
        pairs: prior and current files.
        options: of the registration.
        cache: folder with one folder per pair, named by the files' names, sizes and times, and the options.
        workers: processes; results do not depend on their number.
        verbose: whether to show progress and report how many pairs failed.

    Returns:
        One result per pair, in the given order, including images that could not be read or registered.

    Raises:
        UserError: fewer than one worker, or a cache that cannot be written.
    """
    if workers < 1:
        raise UserError(f"registration with {workers} workers is not possible; give 1 or more.")
    target = Path(cache) / "registration"
    with explained_disk_errors(target):
        make_folder(target)
    remove_leftovers(target)
    wanted = [ImagePair(Path(prior), Path(path)) for prior, path in pairs]
    # Register a repeated pair once: two processes must not write the same folder.
    distinct, found = list(dict.fromkeys(wanted)), {}
    one, batch = partial(_one, options=options, target=target), 4 if workers > 1 else 1
    with (
        progress("registering", len(distinct), "pairs", 0, verbose) as advance,
        over_processes(one, distinct, workers, batch) as done,
    ):
        for result in done:
            found[result.pair] = result
            advance()
    results = [found[pair] for pair in wanted]
    failed = failures(results)
    if verbose and failed:
        pair, reason = failed[0]
        say(f"{len(failed)} of {len(pairs)} pairs did not register; the first: {pair.prior} to {pair.path}: {reason}")
    return results


def failures(results: Sequence[PairResult]) -> list[tuple[ImagePair, str]]:
    """The rejected pairs, each with its reason."""
    return [(result.pair, result.reason) for result in results if result.reason is not None]


def _one(pair: ImagePair, options: RegistrationOptions, target: Path) -> PairResult:
    """A pair from the cache, or computed and cached; a fault of its images is a reason, not an error."""
    if missing := [path for path in pair if not file_of(path).exists()]:
        return PairResult(pair, None, f"{missing[0]} is missing.")
    files = [[path.resolve().as_posix(), *content_stamp(path)] for path in pair]
    key = {"method": METHOD, "options": asdict(options), "files": files}
    folder = target / hash_json(key)
    if not (folder / RESULT).is_file():
        try:
            registration = register(read_image(pair.prior), read_image(pair.path), options)
        except UserError as error:
            return PairResult(pair, None, str(error))
        # Unrounded float32 pixels; an image file would round them to levels and mark the patient as synthetic.
        image = registration.image
        result = {
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
            write_json(temporary / RESULT, result)
    stored = read_mapping(folder / RESULT)
    with explained_content(folder / RESULT):
        motion = _motion(stored["motion"])
        return PairResult(pair, folder, stored["reason"], stored["score"], stored["score_before"], motion)


def _motion(values: dict[str, Any]) -> Motion:
    return Motion(tuple(values["translation"]), tuple(values["rotation"]), values["scale"], values["unit"])


def registration_sheet(
    path: Path, triples: Sequence[tuple[Image, Image, Registration]], titles: Sequence[str] | None = None
) -> None:
    """Write a picture with one row per pair; volumes are shown by their middle axial slice.

    Args:
        path: of the picture, a `.png`.
        triples: prior image, current image and registration.
        titles: a line per pair, shown with the result of the registration.

    Raises:
        UserError: no pair, or a different number of titles.
    """
    from matplotlib.figure import Figure

    if not triples or (titles is not None and len(titles) != len(triples)):
        raise UserError(
            f"a sheet of {len(triples)} pairs with {len(titles or ())} titles; give at least one, and equally many."
        )
    canvas = Figure(figsize=(ROW_INCHES * len(TITLES), ROW_INCHES * len(triples) + 0.3), dpi=DOTS, layout="constrained")
    axes = canvas.subplots(len(triples), len(TITLES), squeeze=False)
    for row, (moving, fixed, registration) in enumerate(triples):
        for number, picture in enumerate(panels(moving, fixed, registration)):
            last = number == len(TITLES) - 1
            axes[row][number].imshow(picture, cmap="RdBu_r" if last else "gray", vmin=-1 if last else 0, vmax=1)
            axes[row][number].set(xticks=[], yticks=[])
        motion = registration.motion
        lines = [
            titles[row] if titles else "",
            f"{', '.join(f'{part:.0f}' for part in motion.translation)} {motion.unit},"
            f" {motion.angle:.1f}°, x{motion.scale:.2f}",
            f"{registration.score_before:.2f} to {registration.score:.2f}",
            registration.reason or "",
        ]
        axes[row][0].set_ylabel("\n".join(line for line in lines if line), fontsize=5)
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=7)
    with atomic_file(path) as temporary:
        canvas.savefig(temporary, format="png")


def panels(moving: Image, fixed: Image, registration: Registration) -> list[FloatArray]:
    """The pictures of TITLES, each `(H, W)`: the first four from 0 to 1, the difference from -1 to 1.

    Each image is scaled between its own percentiles, so that exposure does not hide the anatomy; where the prior image
    has no data it is 0.
    """
    moving_grid, fixed_grid, _ = common_space(moving, fixed)
    unmoved = index_matrix(np.eye(fixed_grid.dims + 1), moving_grid, fixed_grid)
    prior, current, both = clipped(moving)[None], clipped(fixed), registration.inside
    before, after = (sample(prior, matrix, fixed.size)[0] for matrix in (unmoved, registration.matrix))
    after = np.where(both, after, 0)
    side = max(1, -(-max(current.shape) // TILES))
    tiles: NDArray[np.int64] = np.asarray(sum(np.ix_(*(np.arange(length) // side for length in current.shape))))
    mixed = np.where(tiles % 2 == 0, after, current)
    difference = np.where(both, current - after, 0)
    return [flat(part.astype(np.float32)[None])[0] for part in (before, after, current, mixed, difference)]
