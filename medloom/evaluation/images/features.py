"""Features of images by named extractors, each with its own preprocessing, kept on disk by file and extractor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_file, hash_json
from medloom.core.lookup import look_up
from medloom.core.plots import planes_of
from medloom.core.progress import progress
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.downstream.classifier import Classifier
from medloom.downstream.ssl import Encoder
from medloom.evaluation.images.planes import by_slices, plane_spec
from medloom.evaluation.images.sets import ImageSet, Subsets, parts_of
from medloom.evaluation.images.texture import Texture
from medloom.evaluation.images.vision_models import load_vision_model
from medloom.evaluation.report.metrics import EVERYTHING

BATCH = 64
# Features of different images that differ by less than this fraction of their size differ by rounding only.
ROUNDING, SMALLEST = 1e-5, 1e-30
PIXELS = {2: (32, 32), 3: (16, 16, 16)}
# Between the name of a model and a plane of volumes.
BETWEEN = ", "


@dataclass(frozen=True, eq=False)
class Extractor:
    """A map from images to features.

    Attributes:
        name: as it was asked for.
        statement: its preprocessing and features in words, for the report.
        identity: a hash of everything that its features depend on.
        spec: the space in which it takes images.
        compute: maps float32 `(N, C, *size)` in [-1, 1] to features float32 `(N, d)`.
    """

    name: str
    statement: str
    identity: str
    spec: ImageSpec
    compute: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def of(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features `(N, d)` of images `(N, C, *size)` that are no files, computed in batches."""
        parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([self.compute(np.asarray(part, np.float32)) for part in parts])


@dataclass(frozen=True, eq=False)
class Sources:
    """What extractors are made from.

    Attributes:
        spec: the space in which the images of this evaluation are read.
        classifier: trained on real images; None if there is no label.
        device: a torch device.
        encoder: gives the self-supervised encoder that was trained on real images outside the reference.
        known: gives real images in that space, `(N, C, *size)` in [-1, 1], which scale textures.
    """

    spec: ImageSpec
    classifier: Classifier | None
    device: str = "cpu"
    encoder: Callable[[], Encoder] | None = None
    known: Callable[[], NDArray[np.floating]] | None = None


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of a set of images.

    Attributes:
        values: floats `(n, d)`.
        units: patient or prompt of each row.
        groups: modality of each row.
        tags: names of the subsets that each row is in; see ImageSet.
    """

    values: NDArray[np.floating]
    units: NDArray[np.generic]
    groups: NDArray[np.str_]
    tags: tuple[tuple[str, ...], ...] = ()

    @property
    def parts(self) -> Subsets:
        """Which rows are in each subset that is measured on its own."""
        return parts_of(self.tags, self.groups)

    def part(self, name: str) -> "FeatureSet":
        """The rows of a subset; none if the set has no row of it."""
        return self if name == EVERYTHING else self.rows(self.parts.get(name, np.zeros(len(self.values), bool)))

    def rows(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "FeatureSet":
        """Some rows, by number or mask."""
        kept = tuple(self.tags[row] for row in np.arange(len(self.values))[rows]) if self.tags else ()
        return FeatureSet(self.values[rows], self.units[rows], self.groups[rows], kept)


def _classifier(sources: Sources, argument: str) -> Extractor:
    if sources.classifier is None:
        raise UserError(
            "--features classifier needs a label with 2 to 100 values, or two modalities: name a column with --label,"
            " or give another extractor, e.g. --features hf:FOLDER."
        )
    network = sources.classifier
    size = " x ".join(map(str, sources.spec.size))
    return Extractor(
        "classifier",
        f"penultimate features of this evaluation's classifier ({network.name}, {len(network.classes)} classes),"
        f" images of {size} pixels ({sources.spec.resize})",
        hash_json(["classifier", network.fingerprint(), sources.spec.fingerprint()]),
        sources.spec,
        network.features,
    )


def _local(sources: Sources, argument: str) -> Extractor:
    if sources.encoder is None:
        raise UserError("--features local trains an encoder on real images outside the reference, and there are none.")
    encoder = sources.encoder()
    size = " x ".join(map(str, sources.spec.size))
    return Extractor(
        "local",
        f"penultimate features of a self-supervised encoder ({encoder.name}) trained on real images outside the"
        f" reference, images of {size} pixels ({sources.spec.resize}); in its last steps {encoder.agreement:.0%} of all"
        " views had their own partner as nearest neighbour",
        hash_json(["local", encoder.fingerprint(), sources.spec.fingerprint()]),
        sources.spec,
        encoder.features,
    )


def _texture(sources: Sources, argument: str) -> Extractor:
    if sources.known is None:
        raise UserError("--features texture is scaled by real images, and there are none.")
    texture = Texture.of(sources.known())
    size = " x ".join(map(str, sources.spec.size))
    return Extractor(
        "texture",
        f"grey levels, sharpness, grain and local contrast in {len(texture.mean)} numbers, in standard deviations of"
        f" real images, images of {size} pixels ({sources.spec.resize})",
        hash_json(["texture", texture.mean.tolist(), texture.deviation.tolist(), sources.spec.fingerprint()]),
        sources.spec,
        texture,
    )


def _pixels(sources: Sources, argument: str) -> Extractor:
    size = PIXELS[sources.spec.spatial_dims]
    spec = replace(sources.spec, size=size, resize="pad")
    return Extractor(
        "pixels",
        f"grey levels of {' x '.join(map(str, size))} pixels (aspect kept), each image's mean removed, unit length",
        hash_json(["pixels", spec.fingerprint()]),
        spec,
        lambda images: unit_pixels(images.mean(axis=1).reshape(len(images), -1)),
    )


def unit_pixels(grey: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows `(n, d)` with their mean removed and length 1."""
    centred = grey - grey.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # A flat image has no direction; it gets one that no other image is close to.
    flat = lengths[:, 0] == 0
    centred[flat] = np.eye(1, centred.shape[1], dtype=np.float32)
    lengths[flat] = 1
    return np.asarray(centred / lengths, np.float32)


def _vision_model(sources: Sources, argument: str) -> Extractor:
    given, spec = sources.spec, sources.spec
    planes = planes_of(given.orientation is not None) if given.spatial_dims == 3 else {}
    path, _, plane = argument.rpartition(BETWEEN)
    if planes and plane not in planes:
        raise UserError(
            f"--features hf:{argument} takes images of two axes; of volumes name a plane: {', '.join(planes)}."
        )
    model = load_vision_model(path if planes else argument, sources.device)
    taken = model.preprocessing
    resize = "crop" if taken.crop else "pad"
    if not planes:
        spec = replace(given, size=taken.size, resize=resize)
        identity = hash_json(["hf", model.identity, spec.fingerprint()])
        return Extractor(f"hf:{argument}", model.statement, identity, spec, model)
    flat = plane_spec(given, taken.size, resize)
    size = " x ".join(map(str, given.size))
    return Extractor(
        f"hf:{argument}",
        f"mean of three slices ({plane}, at the quartiles of brightness) of volumes of {size} pixels; of each"
        f" {model.statement}",
        hash_json(["hf slices", model.identity, planes[plane], given.fingerprint(), flat.fingerprint()]),
        given,
        by_slices(model, planes[plane], flat),
    )


def by_plane(name: str, spec: ImageSpec) -> tuple[str, ...]:
    """The extractors that a name stands for: of volumes, a model of images of two axes is one for each plane."""
    kind, _, argument = name.partition(":")
    planes = planes_of(spec.orientation is not None) if kind == "hf" and spec.spatial_dims == 3 else {}
    if not planes or argument.rpartition(BETWEEN)[2] in planes:
        return (name,)
    return tuple(f"{name}{BETWEEN}{plane}" for plane in planes)


EXTRACTORS: dict[str, Callable[[Sources, str], Extractor]] = {
    "classifier": _classifier,
    "hf": _vision_model,
    "local": _local,
    "pixels": _pixels,
    "texture": _texture,
}


def check_extractor(name: str) -> None:
    """Refuse the name of an unknown extractor; known are `classifier`, `local`, `texture`, `pixels`, and `hf:` with
    a model.

    Raises:
        UserError: an unknown name, or `hf:` without a model.
    """
    kind, _, argument = name.partition(":")
    look_up(EXTRACTORS, kind, "feature extractor")
    if (kind == "hf") != bool(argument):
        raise UserError(
            f"feature extractor {name!r}: give classifier, local, pixels, hf:FOLDER, or hf:ORG/NAME of the hub."
        )


def make_extractor(name: str, sources: Sources) -> Extractor:
    """The extractor of a name.

    Raises:
        UserError: an unknown name, a model that cannot be loaded, or no classifier.
    """
    check_extractor(name)
    kind, _, argument = name.partition(":")
    return EXTRACTORS[kind](sources, argument)


def extract(
    extractor: Extractor, images: ImageSet, cache: Path, unit: str | None = None, verbose: bool = True
) -> FeatureSet:
    """Features of a set; those of files that the same extractor has read before come from the cache.

    Args:
        extractor: computes them.
        images: the set.
        cache: folder of the features' files, one per extractor.
        unit: of files that do not state theirs.
        verbose: whether to show progress.

    Raises:
        UserError: an image that cannot be read or whose features are not finite; names the file.
    """
    # The modality decides how a file's values are read, so the key needs more than the file.
    keys = [hash_json([digest, group]) for digest, group in zip(images.hashes, images.groups, strict=True)]
    path = Path(cache) / f"{extractor.identity}.npy"
    known = _load(path)
    missing = [row for row, key in enumerate(keys) if key not in known]
    source = ImageSource(images.samples, extractor.spec, unit, {})
    unsaved, done = 0, len(keys) - len(missing)
    with progress(f"{extractor.name} features of {images.name}", len(keys), "images", done, verbose) as advance:
        for start in range(0, len(missing), BATCH):
            rows = missing[start : start + BATCH]
            features = extractor.compute(source.images(rows))
            for row, values in zip(rows, features, strict=True):
                if not np.isfinite(values).all():
                    raise UserError(
                        f"{extractor.name} gives features that are not finite for {source.samples[row].path}."
                    )
                known[keys[row]] = values
            unsaved += len(rows)
            advance(len(rows))
            # Written when they have doubled, so that all writing together costs little more than the last.
            if start + BATCH >= len(missing) or unsaved > max(1024, len(known) // 2):
                table = np.empty(len(known), [("key", "S16"), ("features", "f4", (features.shape[1],))])
                table["key"] = [key.encode() for key in known]
                table["features"] = np.stack(list(known.values()))
                with atomic_file(path) as temporary:
                    np.save(temporary, table, allow_pickle=False)
                unsaved = 0
    found = np.stack([known[key] for key in keys])
    return FeatureSet(found, np.asarray(images.units), np.asarray(images.groups), images.tags)


def kept_features(path: Path, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Features of images that are no files: read from a file of their own, or computed and written to it.

    Raises:
        UserError: a damaged file.
    """
    if path.is_file():
        try:
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path} is not a file of features ({error}); remove it.") from error
        return found
    values = compute()
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, values, allow_pickle=False)
    return values


def _load(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.is_file():
        return {}
    try:
        table = np.load(path, allow_pickle=False)
        return {key.decode(): row for key, row in zip(table["key"], table["features"], strict=True)}
    except (ValueError, IndexError, EOFError) as error:
        raise UserError(f"{path} is not a file of features ({error}); remove it.") from error


def refuse_collapsed(name: str, values: NDArray[np.floating]) -> None:
    """Refuse features that are the same for all images, with which every set would look perfect.

    Args:
        name: of the extractor.
        values: features of real images, `(n, d)`.

    Raises:
        UserError: they do not differ beyond rounding.
    """
    centre = values.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt(((values - centre) ** 2).sum(axis=1).mean()))
    if spread <= ROUNDING * (float(np.linalg.norm(centre)) + SMALLEST):
        raise UserError(
            f"the features of {name} are the same for all {len(values)} real images, so they say nothing about others;"
            " the model is not trained or damaged: give another one with --features."
        )
