"""The images, classifiers and encoders of an evaluation, kept on disk so that the same one run again is quick."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.files import hash_json
from medloom.core.progress import say
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource, cached_images
from medloom.downstream.classifier import Classifier, ClassifierOptions, load_classifier
from medloom.downstream.ssl import Encoder, EncoderOptions, load_encoder, train_encoder
from medloom.evaluation.images.sets import ImageSet

Train = Callable[[NDArray[Any], ImageSet, ClassifierOptions], Classifier]


@dataclass(frozen=True)
class Workshop:
    """Where images are decoded, and classifiers and encoders trained, each once.

    Attributes:
        folder: what is made is kept in its folders `images`, `classifiers` and `encoders`.
        spec: the space of the images.
        options: how classifiers are trained.
        unit: what the values of files are that do not say so.
    """

    folder: Path
    spec: ImageSpec
    options: ClassifierOptions
    unit: str | None = None

    def images(self, members: ImageSet) -> NDArray[np.float16]:
        """The images of a set, float16 `(N, C, *size)` in [-1, 1], memory-mapped.

        Raises:
            UserError: an image that cannot be read; names the file.
        """
        key = {
            "files": hash_json(list(members.hashes)),
            "modalities": hash_json(list(members.groups)),
            "unit": self.unit,
            "spec": self.spec.fingerprint(),
        }
        source = ImageSource(members.samples, self.spec, self.unit, key)
        return cached_images(source, self.folder / "images", self.options.verbose)

    def classifier(self, members: ImageSet, train: Train) -> Classifier:
        """The classifier of a set: an earlier run's, of the same images with the same options, or a new one.

        Args:
            members: the set, all rows labelled.
            train: what trains it.

        Raises:
            UserError: an image that cannot be read, or what `train` refuses.
        """
        rows = [list(values) for values in (members.hashes, members.labels, members.units, members.groups)]
        key = hash_json([train.__name__, rows, self.spec.fingerprint(), self.unit, self.options.identity()])
        folder = self.folder / "classifiers" / key
        if folder.is_dir():
            if self.options.verbose:
                say(f"classifier of {members.name} images: read from {folder}")
            return load_classifier(folder, self.options.device)
        classifier = train(self.images(members), members, self.options)
        classifier.save(folder)
        return classifier

    def encoder(self, members: ImageSet, options: EncoderOptions) -> Encoder:
        """The self-supervised encoder of a set: an earlier run's, of the same images with the same options, or new.

        Raises:
            UserError: an image that cannot be read, or fewer images than an encoder can be trained on.
        """
        rows = [list(values) for values in (members.hashes, members.groups)]
        key = hash_json([rows, self.spec.fingerprint(), self.unit, options.identity()])
        folder = self.folder / "encoders" / key
        if folder.is_dir():
            if options.verbose:
                say(f"encoder of {members.name} images: read from {folder}")
            return load_encoder(folder, options.device)
        encoder = train_encoder(self.images(members), options)
        encoder.save(folder)
        return encoder
