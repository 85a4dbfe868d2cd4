"""A classifier of several findings at once, each present or absent: trained from a seed, with thresholds, saved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.seeds import initial_weights, numpy_generator
from medloom.downstream.classifier import LABEL_SMOOTHING, ClassifierOptions, fit_selected, refuse_shared
from medloom.downstream.networks import (
    NETWORKS,
    HeadedNetwork,
    Images,
    map_images,
    placed,
    read_network,
    refuse_other_shape,
    write_network,
)
from medloom.metrics.areas import auroc_interval

Truth = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class MultiLabelClassifier:
    """A trained classifier with one output per finding.

    Attributes:
        network: in evaluation mode.
        name: the network's name in NETWORKS.
        outputs: names of the findings, in the order of the scores.
        shape: of one image, `(C, *spatial)`.
        thresholds: of each output; a score above it is positive. Chosen on the validation rows.
        validation: the `step` of the selected weights and their `auroc`, the mean over outputs on the validation rows.
    """

    network: HeadedNetwork
    name: str
    outputs: tuple[str, ...]
    shape: tuple[int, ...]
    thresholds: tuple[float, ...]
    validation: dict[str, float | None] = field(default_factory=dict)

    def scores(self, images: Images) -> NDArray[np.float32]:
        """Log odds `(N, outputs)` of images `(N, C, *spatial)` in [-1, 1], as if half of the images had each finding.

        Raises:
            UserError: the shape of the images differs from that of the training images.
        """
        refuse_other_shape(images, self.shape)
        return map_images(self.network, self.network, images)

    def save(self, folder: Path) -> None:
        """Write the classifier to a folder: safetensors and JSON."""
        config = {"network": self.name, "outputs": list(self.outputs), "shape": list(self.shape)}
        chosen = {"thresholds": list(self.thresholds), "validation": self.validation}
        write_network(folder, self.network, {**config, **chosen})


def load_multilabel(folder: Path, device: str = "cpu") -> MultiLabelClassifier:
    """Read what `MultiLabelClassifier.save` wrote.

    Raises:
        UserError: a file is missing or damaged, or the network's name is unknown.
    """
    network, config = read_network(folder, lambda config: len(config["outputs"]), device)
    outputs, shape, thresholds = (tuple(config[name]) for name in ("outputs", "shape", "thresholds"))
    return MultiLabelClassifier(network, config["network"], outputs, shape, thresholds, config["validation"])


def hold_out_labels(patients: Sequence[str], truth: Truth, fraction: float, seed: int) -> NDArray[np.intp]:
    """Rows of patients to hold out: about the same fraction of the patients with and without each finding.

    The rarest group of patients is divided first, so that at least one of its patients is on either side as far as the
    groups that were divided before allow.

    Args:
        patients: patient of each row.
        truth: `(N, outputs)` of 0 and 1; nan where it is not known.
        fraction: fraction of the patients, in (0, 1).
        seed: of the choice.
    """
    names, codes = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    # Of each patient, whether it is in a group: without (0) or with (1) an output's finding; and all patients.
    groups = [np.bincount(codes, column == state, len(names)) > 0 for column in truth.T for state in (0, 1)]
    groups = [*sorted(groups, key=lambda group: int(group.sum())), np.ones(len(names), bool)]
    order = numpy_generator("hold-out of findings", seed).permutation(len(names))
    held, free = np.zeros(len(names), bool), np.ones(len(names), bool)
    for group in groups:
        size = int(group.sum())
        wanted = min(max(1, round(fraction * size)), size - 1) - int((held & group).sum())
        own = [patient for patient in order if group[patient] and free[patient]]
        held[own[: max(wanted, 0)]] = True
        free[own] = False
    return np.flatnonzero(held[codes])


def train_multilabel(
    images: Images,
    truth: Truth,
    outputs: Sequence[str],
    patients: Sequence[str],
    validation: NDArray[np.intp],
    options: ClassifierOptions,
) -> MultiLabelClassifier:
    """Train a classifier of several findings on some rows; select it and its thresholds on the others.

    Images with and without each finding count equally, so that scores of different findings can be compared. Images are
    augmented without left-right flips, which would exchange the sides of findings.

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes; may be memory-mapped.
        truth: `(N, outputs)` of 0 and 1; nan where it is not known.
        outputs: names of the findings.
        patients: patient of each row.
        validation: rows to select on, whose patients have no other row.
        options: see ClassifierOptions.

    Raises:
        UserError: different lengths, a finding that is not both present and absent on either side, a patient on both
            sides, or an unknown network.
    """
    if truth.shape != (len(images), len(outputs)) or len(patients) != len(images) or not len(outputs):
        raise UserError(
            f"{len(images)} images with {truth.shape} labels of {len(outputs)} findings and {len(patients)} patients;"
            " give a row of labels and a patient per image, and one finding or more."
        )
    held = np.isin(np.arange(len(images)), validation)
    for part, use in ((truth[held], "select"), (truth[~held], "train")):
        for name, column in zip(outputs, part.T, strict=True):
            if not {0.0, 1.0} <= set(column.tolist()):
                raise UserError(f"{name!r} is not both present and absent in the images to {use} on; leave it out.")
    refuse_shared(patients, held)
    build = look_up(NETWORKS, options.network, "network")
    with initial_weights(options.seed, "findings", options.network):
        network = build(images.shape[1], len(outputs), images.ndim - 2)
    network = placed(network, images.ndim - 2, options.device)
    groups = [np.flatnonzero(~held & (column == state)) for column in truth.T for state in (0, 1)]

    def draw(rng: np.random.Generator) -> NDArray[np.intp]:
        # A finding and whether it is there, drawn at random, then a row of that kind.
        wanted = rng.integers(0, len(groups), options.batch)
        return np.array([groups[group][rng.integers(len(groups[group]))] for group in wanted])

    def loss_of(logits: Tensor, rows: NDArray[np.intp]) -> Tensor:
        return balanced_loss(logits, torch.from_numpy(truth[rows].astype(np.float32)).to(logits.device))

    def area_of(logits: NDArray[np.float32]) -> float:
        return auroc_interval(truth[held], logits, np.asarray(patients)[held]).value

    step, area = fit_selected(network, images, held, options, draw, loss_of, area_of)
    network.eval()
    scores = map_images(network, network, images[held])
    thresholds = tuple(best_threshold(*pair) for pair in zip(truth[held].T, scores.T, strict=True))
    shape = tuple(images.shape[1:])
    return MultiLabelClassifier(
        network, options.network, tuple(outputs), shape, thresholds, {"step": step, "auroc": area}
    )


def balanced_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of `(N, outputs)`: a mean over outputs, in which present and absent count equally.

    Args:
        logits: of each output.
        truth: 0 and 1; nan where it is not known.
    """
    losses = []
    for state in (0.0, 1.0):
        own = truth == state
        target = torch.full_like(logits, state * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2)
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * own
        losses.append(each.sum(0) / own.sum(0).clamp(min=1))
    return torch.stack(losses).mean()


def best_threshold(truth: Truth, scores: NDArray[np.floating]) -> float:
    """The threshold with the largest sensitivity plus specificity (Youden 1950), midway between two scores.

    Args:
        truth: `(n,)` of 0 and 1, both present; nan for rows that do not take part.
        scores: `(n,)`; those above the threshold are positive.
    """
    known = ~np.isnan(truth)
    truth, scores = truth[known], np.asarray(scores[known], float)
    ends = np.unique(scores)
    between = np.concatenate([[ends[0] - 1], (ends[1:] + ends[:-1]) / 2, [ends[-1] + 1]])
    above = scores > between[:, None]
    gain = above[:, truth == 1].mean(axis=1) - above[:, truth == 0].mean(axis=1)
    best = np.flatnonzero(gain == gain.max())
    # Of several that are equally good the middle one.
    return float(between[best[len(best) // 2]])
