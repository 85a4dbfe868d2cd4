"""The user's control set: images that are known to be bad, e.g. of an early checkpoint, measured as the others are.

A metric that does not distinguish them from real images, and a rule that they meet, say nothing about the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from medloom.evaluation.images.alignment import AUROC, RECOGNITION, SPECIFICITY, predict, recognition_metrics
from medloom.evaluation.images.detail import detail_metrics
from medloom.evaluation.images.fidelity import control_beyond
from medloom.evaluation.images.section import Found, Inputs
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import Metric

# Name of a metric, subset and extractor.
Key = tuple[str, str, str]
# Recognition beyond chance is left out, as of sets made without a model: a bad image may show its class.
RECOGNISED = (RECOGNITION, AUROC, SPECIFICITY)


def with_control_set(found: Mapping[str, Found], inputs: Inputs) -> dict[str, Found]:
    """The sections whose metrics of fidelity, detail and recognition have the value of the control set.

    Args:
        found: name of each measured section to what it found.
        inputs: what it was measured from; without a control set nothing changes.

    Raises:
        UserError: an image of the control set that cannot be read.
    """
    control = inputs.data.control
    if control is None:
        return dict(found)
    values: dict[Key, float] = {}
    if "fidelity" in found:
        values |= _of_fidelity(found["fidelity"].metrics, inputs, control)
    if "alignment" in found:
        values |= _of_recognition(inputs, control)
    return {
        name: replace(own, metrics=[replace(metric, control_set=values.get(_key(metric))) for metric in own.metrics])
        for name, own in found.items()
    }


def _key(metric: Metric) -> Key:
    return metric.name, metric.subset, metric.extractor


def _of_fidelity(measured: Sequence[Metric], inputs: Inputs, control: ImageSet) -> dict[Key, float]:
    sets = inputs.data.real, inputs.data.synthetic, control
    references = {_key(metric): metric.reference.value for metric in measured}
    values: dict[Key, float] = {}
    for name in inputs.extractors:
        real, synthetic, bad = (inputs.features(name, members) for members in sets)
        for (metric, subset), beyond in control_beyond(real, synthetic, bad, inputs.seed, inputs.metrics).items():
            key = (metric, subset, name)
            values[key] = references[key] + beyond
    details, _ = detail_metrics(inputs.cache, inputs.data.real, control, inputs.seed)
    return values | {_key(metric): metric.value for metric in details}


def _of_recognition(inputs: Inputs, control: ImageSet) -> dict[Key, float]:
    data, classifier, known = inputs.data, inputs.classifier, control.labelled()
    real = data.real.labelled()
    if classifier is None or not known.classes & real.classes:
        return {}
    by_real, by_control = (predict(classifier, inputs.cache.images(members), members) for members in (real, known))
    metrics = recognition_metrics(data.label, by_real, by_control, inputs.seed)
    return {_key(metric): metric.value for metric in metrics if metric.name in RECOGNISED}
