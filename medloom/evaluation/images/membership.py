"""Does a generator reveal which images it was trained on? An attack, compared with attacks that cannot know.

An attack is a finding only above its controls: the same attack between two halves of the training images, which nothing
can tell apart, and a classifier that sees images but no model, which tells apart sets that differ anyway.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.evaluation.images.section import Attack, Inputs
from medloom.evaluation.report.metrics import LOWER, Metric, Reference, proportion
from medloom.generators.image_losses import DRAWS, attack_refusal, image_losses
from medloom.generators.storage import open_generator
from medloom.metrics.membership import membership_auc, threshold

ATTACK, HALVES = "membership AUC by loss", "membership AUC of two halves of the members"
BLIND, FOUND = "membership AUC of images alone", "members found at 1 % false positives"
MEANINGS = {
    ATTACK: "area under the ROC curve of telling training images from held-out ones by the model's loss",
    HALVES: "control: the same between two halves of the training images, which nothing can tell apart",
    BLIND: "control: the same by a classifier that sees images but no model",
    FOUND: "fraction of training images that the attack finds if it is wrong about 1 % of the others",
}
CHANCE = "members cannot be distinguished from others"
FALSE_POSITIVES = 0.01
COMPONENTS, FOLDS = 16, 5
LEAST_PATIENTS = 20

Floats = NDArray[np.floating]
Patients = tuple[Sequence[str], Sequence[str]]


def attack_model(inputs: Inputs, attack: Attack) -> tuple[list[Metric], list[str]]:
    """The attack on a model by its losses, with its controls; a note if it cannot be attacked.

    Raises:
        UserError: no training image of the model.
    """
    data, cache, seed = inputs.data, inputs.cache, inputs.seed
    if refusal := attack_refusal(attack.model):
        return [], [f"No membership inference: {refusal}."]
    train = data.train
    known = set() if train is None else set(open_generator(attack.model).splits()[0].seen(list(train.units)))
    rows = [] if train is None else [row for row, patient in enumerate(train.units) if patient in known]
    if train is None or not rows:
        raise UserError(f"{attack.model} was trained on no patient of --train; give its training manifest.")
    sides = []
    for members in (train.rows(rows), data.real):
        order = numpy_generator("attack", seed, members.name).permutation(len(members))
        sides.append(members.rows(np.sort(order[: attack.images])))
    if min(len(set(side.units)) for side in sides) < LEAST_PATIENTS:
        return [], [f"No membership inference: it needs {LEAST_PATIENTS} patients on each side."]
    samples, hashes = [s for side in sides for s in side.samples], [h for side in sides for h in side.hashes]
    given = (samples, hashes, cache.folder / "attack", cache.unit, attack.device)
    scores, how = -image_losses(attack.model, *given), f"Score: minus the training loss, a mean over {DRAWS} draws"
    if attack.reference is not None:
        scores += image_losses(attack.reference, *given)
        how += ", plus that of a model that was trained on other patients"
    pixels = [inputs.features("pixels", side).values for side in sides]
    first, units = len(sides[0]), (sides[0].units, sides[1].units)
    return membership_metrics(scores[:first], scores[first:], units, (pixels[0], pixels[1]), seed, f"{how}.")


def membership_metrics(
    member_scores: Floats, other_scores: Floats, patients: Patients, pixels: tuple[Floats, Floats], seed: int, how: str
) -> tuple[list[Metric], list[str]]:
    """The attack, its two controls, and a note that reads them together.

    Args:
        member_scores: of training images, higher if the attack takes them for such.
        other_scores: of held-out images.
        patients: of the two.
        pixels: what an attack without a model sees, `(n, d)` each.
        seed: of halves, folds and resamples.
        how: the scores were computed, for the report.
    """
    names = np.asarray(patients[0])
    attack = membership_auc(member_scores, other_scores, *patients, seed)
    order = numpy_generator("member halves", seed).permutation(np.unique(names))
    first = np.isin(names, order[: len(order) // 2])
    halves = membership_auc(member_scores[first], member_scores[~first], names[first], names[~first], seed)

    # A classifier of images alone, tested on patients that it was not fitted on (Das et al. 2024).
    x, truth = np.concatenate(pixels), np.repeat([1, 0], [len(side) for side in pixels])
    everyone = np.concatenate([np.asarray(side).astype(str) for side in patients])
    scores = np.empty(len(x))
    for fitted, tested in GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(x, truth, everyone):
        components = min(COMPONENTS, *x[fitted].shape)
        model = make_pipeline(
            PCA(components, random_state=0), StandardScaler(), LogisticRegression(class_weight="balanced")
        )
        scores[tested] = model.fit(x[fitted], truth[fitted]).decision_function(x[tested])
    blind = membership_auc(scores[truth == 1], scores[truth == 0], everyone[truth == 1], everyone[truth == 0], seed)

    metrics = [
        Metric.of(interval, name=name, reference=Reference(CHANCE, 0.5), better=better, note=note)
        for name, interval, better, note in (
            (ATTACK, attack, LOWER, how),
            (HALVES, halves, "", ""),
            (BLIND, blind, "", ""),
        )
    ]
    if len(other_scores) * FALSE_POSITIVES >= 1:
        found = proportion(member_scores > threshold(other_scores, FALSE_POSITIVES), patients[0], seed)
        note = (
            f"The threshold comes from {len(other_scores)} held-out images: it is as uncertain as their highest scores."
        )
        reference = Reference("chance", FALSE_POSITIVES)
        metrics.append(Metric.of(found, name=FOUND, reference=reference, better=LOWER, note=note))
    result = f"AUC {attack.value:.3f} ({attack.low:.3f} to {attack.high:.3f}) on {attack.n} patients"
    if attack.low > max(0.5, halves.high, blind.high):
        return metrics, [
            f"Membership: the attack finds members, {result}, above both of its controls: the model leaks."
        ]
    if max(halves.low, blind.low) > 0.5:
        return metrics, [
            "Membership: a control is above chance, so the sets differ by more than training;"
            f" {result} says nothing about the model."
        ]
    return metrics, [f"Membership: the attack is not above its controls, {result}; a stronger attack may be."]
