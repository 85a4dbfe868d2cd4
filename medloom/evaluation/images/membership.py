"""Does a generator reveal which images it was trained on? An attack, compared with attacks that cannot know.

An attack is a finding only above its controls: the same attack between two halves of the training images, which nothing
can tell apart, and a classifier that sees images but no model, which tells apart sets that differ anyway.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
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
from medloom.metrics.areas import auroc_difference, auroc_interval
from medloom.metrics.classification import auroc
from medloom.metrics.membership import detected_by_chance, membership_auc, threshold
from medloom.metrics.uncertainty import Interval, difference, holm, p_value

ATTACK, HALVES = "membership AUC by loss", "membership AUC of two halves of the members"
BLIND = "membership AUC of images alone"
# Name of the metric -> rate of others that may be called members.
FOUND = {"members found at 1 % false positives": 0.01, "members found at 0.1 % false positives": 0.001}
MEANINGS = {
    ATTACK: "area under the ROC curve of telling training images from held-out ones by the model's loss",
    HALVES: "control: the same between two halves of the training images, which nothing can tell apart",
    BLIND: "control: the same by a classifier that sees images but no model",
    **{
        name: f"fraction of training images that the attack finds if it is wrong about {100 * rate:g} % of the others"
        for name, rate in FOUND.items()
    },
}
CHANCE = "members cannot be distinguished from others"
# Of the held-out patients, how many must exceed a threshold for it to be a threshold.
LEAST_FALSE = 10
HALVINGS, PERMUTATIONS = 10, 40
SIZE, POWER = 0.05, 0.8
# Two folds share no training image, so that their areas vary little together.
COMPONENTS, FOLDS = 16, 2
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
    """The attack, its two controls, and notes that read them together.

    Args:
        member_scores: of training images, higher if the attack takes them for such.
        other_scores: of held-out images.
        patients: of the two.
        pixels: what an attack without a model sees, `(n, d)` each.
        seed: of halves, folds and permutations.
        how: the scores were computed, for the report.
    """
    everyone = np.concatenate([np.asarray(side).astype(str) for side in patients])
    truth = np.repeat([1.0, 0.0], [len(member_scores), len(other_scores)])
    scores = np.concatenate([member_scores, other_scores])
    halves = _halves(truth, everyone, seed)
    repeated = np.repeat(scores[:, None], halves.shape[1], axis=1)
    attack = membership_auc(member_scores, other_scores, *patients)
    of_halves = auroc_interval(halves, repeated, everyone)
    of_images = _blind(np.concatenate(pixels), truth, everyone, seed)
    metrics = [
        Metric.of(interval, name=name, reference=Reference(CHANCE, 0.5), better=better, note=note)
        for name, interval, better, note in (
            (ATTACK, attack, LOWER, how),
            (HALVES, of_halves, "", f"The mean over {HALVINGS} halvings."),
            (BLIND, of_images, "", ""),
        )
    ]
    found, lack = _found(member_scores, other_scores, patients, seed)
    above = auroc_difference((truth, halves), (scores, repeated), everyone), difference(attack, of_images)
    return [*metrics, *found], [_reading(attack, (of_halves, of_images), above), *lack]


def _halves(truth: Floats, patients: NDArray[np.str_], seed: int) -> Floats:
    """Labels of the members' halves, one column per halving; nan for others.

    One halving has half of the members on a side, and says less than the attack. The mean of several says as much.
    """
    names, codes = np.unique(patients[truth == 1], return_inverse=True)
    rng = numpy_generator("member halves", seed)
    labels = np.full((len(truth), HALVINGS), np.nan)
    for column in range(HALVINGS):
        labels[truth == 1, column] = (rng.permutation(len(names)) < len(names) // 2)[codes]
    return labels


def _blind(x: Floats, truth: Floats, patients: NDArray[np.str_], seed: int) -> Interval:
    """The area of a classifier of images alone, on patients that it was not fitted on (Das et al. 2024).

    The classifier of a fold depends on the images of the other, so that areas vary more than their pairs say. The
    interval is widened to the spread of areas after permutations of the patients between members and others.
    """
    folds = []
    for fitted, tested in GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(x, truth, patients):
        reduced = make_pipeline(PCA(min(COMPONENTS, *x[fitted].shape), random_state=0), StandardScaler()).fit(x[fitted])
        folds.append((fitted, tested, reduced.transform(x[fitted]), reduced.transform(x[tested])))

    def scores(labels: Floats) -> Floats:
        found = np.empty(len(labels))
        for fitted, tested, known, asked in folds:
            classifier = LogisticRegression(class_weight="balanced").fit(known, labels[fitted])
            found[tested] = classifier.decision_function(asked)
        return found

    names, first, codes = np.unique(patients, return_index=True, return_inverse=True)
    rng = numpy_generator("blind attack", seed)
    permuted = [truth[first][rng.permutation(len(names))][codes] for _ in range(PERMUTATIONS)]
    spread = float(np.std([auroc(labels, scores(labels)) for labels in permuted], ddof=1))
    area = auroc_interval(truth, scores(truth), patients)
    wider = max(2 * float(norm.ppf(1 - SIZE / 2)) * spread / (area.high - area.low), 1.0)
    ends = (area.value - wider * (area.value - area.low), area.value + wider * (area.high - area.value))
    return Interval(area.value, max(ends[0], 0.0), min(ends[1], 1.0), area.n)


def _found(
    member_scores: Floats, other_scores: Floats, patients: Patients, seed: int
) -> tuple[list[Metric], list[str]]:
    """Members found at few false positives, where there are enough held-out patients; a note where there are not."""
    metrics, lacking, count = [], [], len(set(patients[1]))
    for name, rate in FOUND.items():
        # With fewer the true rate beyond the threshold may be more than twice the nominal one, or less than half.
        needed = round(LEAST_FALSE / rate)
        if count < needed:
            lacking.append(f"{name} ({needed:,})")
            continue
        hits = proportion(member_scores > threshold(other_scores, rate), patients[0])
        chance = detected_by_chance(member_scores, other_scores, *patients, rate, seed)
        reference = Reference.of(chance, "a model without a leak: 95 % of cases", by_chance=True)
        metrics.append(Metric.of(hits, name=name, reference=reference, better=LOWER))
    note = f"{count:,} held-out patients were attacked, too few for: {', '.join(lacking)}. The setting attack_images"
    return metrics, [f"{note} limits their number."] if lacking else []


def _reading(attack: Interval, controls: Sequence[Interval], above: Sequence[Interval]) -> str:
    """What the attack says, by tests of its difference from each control, corrected for two tests (Holm).

    Args:
        attack: area of the attack.
        controls: areas of the controls.
        above: the attack less each control.
    """
    result = f"AUC {_ends(attack)} on {attack.n} patients"
    leads = f"{_ends(above[0])} above two halves of the members and {_ends(above[1])} above images alone"
    leaks = all(p <= SIZE for p in holm([p_value(lead) for lead in above]))
    if leaks and attack.low > 0.5 and min(lead.value for lead in above) > 0:
        return f"Membership: the attack finds members, {result}, {leads}: above both of its controls, the model leaks."
    tests = zip(controls, holm([p_value(control, 0.5) for control in controls]), strict=True)
    if any(p <= SIZE and control.value > 0.5 for control, p in tests):
        return (
            "Membership: a control is above chance, so the sets differ by more than training;"
            f" {result} says nothing about the model."
        )
    # Half an interval is 1.96 standard errors; a test of this size needs 1.96 + 0.84 of them for a power of 80 %.
    error = max(lead.high - lead.low for lead in above) / (2 * norm.ppf(1 - SIZE / 2))
    seen = 0.5 + error * (norm.ppf(1 - SIZE / 2) + norm.ppf(POWER))
    return (
        f"Membership: the attack is not above its controls, {result}, {leads}. An AUC of {seen:.2f} or more would have"
        f" been seen with a probability of {POWER:.0%}; a stronger attack may find more."
    )


def _ends(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
