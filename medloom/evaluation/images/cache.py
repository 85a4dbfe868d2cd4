"""Decoded images, classifiers and encoders of an evaluation, kept on disk so that running it again is quick."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.lookup import look_up
from medloom.core.progress import say
from medloom.core.seeds import check_seed
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource, cached_images
from medloom.downstream.classifier import (
    Classifier,
    ClassifierOptions,
    hold_out,
    load_classifier,
    train_classifier,
)
from medloom.downstream.multilabel import MultiLabelClassifier, hold_out_labels, load_multilabel, train_multilabel
from medloom.downstream.networks import NETWORKS
from medloom.downstream.ssl import Encoder, EncoderOptions, load_encoder, train_encoder
from medloom.evaluation.images.sets import ImageSet
from medloom.training.devices import check_device

VALIDATION = 0.15
# Of findings there are few patients, and a threshold is chosen on them.
FINDINGS_VALIDATION = 0.25

Images = NDArray[np.float16]
Train = Callable[[Images, ImageSet, ClassifierOptions], Classifier]


def judge_options(network: str, steps: int, seed: int, device: str) -> ClassifierOptions:
    """How the judging networks of an evaluation are trained, from options of the command line.

    Args:
        network: a name in NETWORKS.
        steps: optimiser steps, 1 or more.
        seed: of weights, order and augmentation.
        device: auto, cpu or cuda.

    Raises:
        UserError: an option that is out of range; names it.
    """
    look_up(NETWORKS, network, "--network")
    if steps < 1:
        raise UserError(f"--steps {steps}: the judging networks need 1 or more.")
    check_seed(seed)
    check_device(device)
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return ClassifierOptions(network=network, steps=steps, seed=seed, device=chosen)


def train_on_real(images: Images, members: ImageSet, options: ClassifierOptions) -> Classifier:
    """A classifier of labelled real images, selected on 15 % of their patients.

    Raises:
        UserError: one class, or a class with a single patient.
    """
    labels = [str(label) for label in members.labels]
    units = members.units
    return train_classifier(images, labels, units, hold_out(units, labels, VALIDATION, options.seed), options)


def train_on_synthetic(images: Images, members: ImageSet, options: ClassifierOptions) -> Classifier:
    """A classifier of labelled synthetic images, selected on 15 % of them, with as many steps as the real one.

    Single images are held out instead of whole prompts, since a class may have one prompt only.

    Raises:
        UserError: one class, or a class with a single image.
    """
    labels = [str(label) for label in members.labels]
    own = [str(row) for row in range(len(labels))]
    return train_classifier(images, labels, own, hold_out(own, labels, VALIDATION, options.seed), options)


def finding_rows(members: ImageSet, truth: NDArray[np.float64]) -> NDArray[np.intp]:
    """The rows on which a classifier of findings is selected: those of a quarter of the patients.

    They are the same for every seed, so that the findings which can be measured do not depend on it.
    """
    return hold_out_labels(members.units, truth, FINDINGS_VALIDATION, 0)


@dataclass(frozen=True)
class EvaluationCache:
    """Decodes images and trains classifiers and encoders, each once.

    Attributes:
        folder: holds the folders `images`, `classifiers`, `findings`, `flips` and `encoders`.
        spec: the space in which images are read.
        options: how classifiers are trained.
        unit: of files that do not state theirs.
    """

    folder: Path
    spec: ImageSpec
    options: ClassifierOptions
    unit: str | None = None

    def images(self, members: ImageSet) -> Images:
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
        """The classifier of a set: that of an earlier run on the same images with the same options, or a new one.

        Args:
            members: the set, all rows labelled.
            train: trains it.

        Raises:
            UserError: an image that cannot be read, or a set that `train` refuses.
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

    def finding_classifier(
        self, members: ImageSet, truth: NDArray[np.float64], outputs: Sequence[str]
    ) -> MultiLabelClassifier:
        """The classifier of several findings of a set: that of an earlier run on the same images, or a new one.

        It is selected, and its thresholds chosen, on a quarter of the patients. Its network, steps, seed and device are
        those of the classifiers.

        Args:
            members: the set.
            truth: `(N, outputs)` of 0 and 1; nan where it is not known.
            outputs: names of the findings.

        Raises:
            UserError: an image that cannot be read, or a finding of too few patients.
        """
        rows = [list(values) for values in (members.hashes, members.units, members.groups)]
        labels = hash_json(["" if value != value else int(value) for value in truth.ravel().tolist()])

        def train() -> MultiLabelClassifier:
            held = finding_rows(members, truth)
            return train_multilabel(self.images(members), truth, outputs, members.units, held, self.options)

        return self.multilabel("findings", [rows, labels, list(outputs)], train)

    def multilabel(
        self, what: str, made_from: Sequence[object], train: Callable[[], MultiLabelClassifier]
    ) -> MultiLabelClassifier:
        """A classifier of several outputs: that of an earlier run on the same images and options, or a new one.

        Args:
            what: it classifies; the name of a folder.
            made_from: what it is trained on, as JSON values.
            train: trains it.
        """
        key = hash_json([*made_from, self.spec.fingerprint(), self.unit, self.options.identity()])
        folder = self.folder / what / key
        if folder.is_dir():
            if self.options.verbose:
                say(f"classifier of {what}: read from {folder}")
            return load_multilabel(folder, self.options.device)
        classifier = train()
        classifier.save(folder)
        return classifier

    def encoder(self, members: ImageSet) -> Encoder:
        """The self-supervised encoder of a set: that of an earlier run on the same images, or a new one.

        Its network, steps, seed and device are those of the classifiers.

        Raises:
            UserError: an image that cannot be read, or fewer images than an encoder can be trained on.
        """
        judge = self.options
        options = EncoderOptions(
            network=judge.network, steps=judge.steps, seed=judge.seed, device=judge.device, verbose=judge.verbose
        )
        rows = [list(values) for values in (members.hashes, members.groups)]
        folder = self.folder / "encoders" / hash_json([rows, self.spec.fingerprint(), self.unit, options.identity()])
        if folder.is_dir():
            if options.verbose:
                say(f"encoder of {members.name} images: read from {folder}")
            return load_encoder(folder, options.device)
        encoder = train_encoder(self.images(members), options)
        encoder.save(folder)
        return encoder
