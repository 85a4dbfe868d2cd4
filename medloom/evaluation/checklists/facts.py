"""What fills the items of a checklist: a function for each fact, None where neither run nor report knows it."""

from collections.abc import Sequence
from typing import Any

from medloom.evaluation.checklists.guideline import Filled, Known
from medloom.evaluation.report.metrics import EVERYTHING, FAILS, WORSE, with_interval
from medloom.evaluation.report.questions import NOT_MEASURED, NOT_SHOWN
from medloom.evaluation.report.source_population import PHANTOM, has_virtual, source_population

RUN, INDEX, GENERATOR, SCORES = "run.json", "index.json", "generator.json", "scores.json"
# Options of training that a reader asks for first, by where they stand.
TRAINED_WITH = (
    "steps",
    "batch",
    "accumulate",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "ema",
    "precision",
)
ORIGINS = {"from_run": "another run", "base": "published weights", "autoencoder": "latents of an autoencoder's run"}
LISTED = 12


def technique(known: Known) -> Filled | None:
    """The kind of model."""
    if known.run is None:
        return None
    task = known.options.get("task", "its own task")
    value = f"a generative model of the family {known.run.index()['family']}, trained by {task}"
    return Filled(value, f"{INDEX}, {RUN}", "the wording in title and abstract")


def virtual_source(known: Known) -> Filled | None:
    """Data of a phantom, which is the only source that a run knows by itself."""
    if known.run is None or not has_virtual(known.run):
        return None
    value = f"virtual patients of `medloom data phantom`: {source_population(known.run)['virtual patients']}. {PHANTOM}"
    return Filled(value, f"{RUN}: population", "sources of further images, if there are any")


def preprocessing(known: Known) -> Filled | None:
    """How images reach the model."""
    spec = known.identity.get("spec")
    if spec is None:
        return None
    windows = [
        f"{name}: {own['low']:g} to {own['high']:g} {own['unit']}"
        if own["kind"] == "window"
        else f"{name}: each image's percentiles {own['low']:g} to {own['high']:g}"
        for name, own in sorted(spec["intensity"].items())
    ]
    spacing = f", spacing {spec['spacing']} mm" if spec.get("spacing") else ""
    size = " x ".join(map(str, spec["size"]))
    value = f"brought to {size} pixels by {spec['resize']}{spacing}; grey values by {'; '.join(windows)}"
    return Filled(value, f"{RUN}: identity.spec", "what was done to the files before medloom read them")


def subsets_of_images(known: Known) -> Filled | None:
    """Whether whole images or parts of them are used."""
    if not known.options:
        return None
    patch = known.options.get("patch")
    value = f"patches of {' x '.join(map(str, patch))} pixels" if patch else "whole images"
    return Filled(value, f"{RUN}: identity.options.patch", "which rows and columns of the table, and why")


def missing_values(known: Known) -> Filled | None:
    """What training images lacked, and what was done about it."""
    record = known.settings.get("trained_on")
    if not record:
        return None
    images, parts = record["images"], {**record["parts"], **record["columns"]}
    lacking = [f"{name} missing in {images - count}" for name, count in parts.items() if 0 < count < images]
    value = f"of {images} training images: {', '.join(lacking) or 'no part or column is missing in some of them only'}"
    handled = "; images without a part were trained on without it, nothing was imputed" if lacking else ""
    return Filled(value + handled, f"{GENERATOR}: trained_on", "missing values in the evaluation")


def partitions(known: Known) -> Filled | None:
    """How patients were split."""
    if known.run is None:
        return None
    counts = ", ".join(f"{name} {len(ids)}" for name, ids in known.run.splits()[0].patients.items())
    seed, fraction = known.options["loop"].get("seed"), known.options.get("validation")
    value = f"patients: {counts}; by the table's column split where it has one, else at random (seed {seed}"
    value += ")" if fraction is None else f", {fraction:g} for validation)"
    return Filled(value, f"{RUN}: split", "which of the two it was, and how the test set was set apart")


def level(known: Known) -> Filled | None:
    """On which level sets are disjoint."""
    if known.run is None:
        return None
    if known.description["images_are_patients"]:
        return Filled("images: each was taken for another patient's", f"{RUN}: images_are_patients")
    return Filled("patients: none is in two partitions", f"{RUN}: split")


def planned_size(known: Known) -> Filled | None:
    """The planned sample size."""
    plan = known.scores.get("plan")
    if not plan:
        return None
    sizes = dict.fromkeys(f"{own['metric']}: {own['planned']} ({own['power']})" for own in plan["metrics"])
    notes = dict.fromkeys(f"{own['metric']} is {own['note']}" for own in plan["metrics"] if own["note"])
    return Filled("; ".join([*sizes, *notes]), f"{SCORES}: plan")


def architecture(known: Known) -> Filled | None:
    """What the model consists of."""
    if known.run is None:
        return None
    index = known.run.index()
    parts = ", ".join(f"{name} {kind}" for name, kind in sorted(index.get("components", {}).items()))
    network = known.options.get("network") or {}
    text = f"family {index['family']}" + f": {parts}" * bool(parts)
    text += f"; widths {network['widths']}" if "widths" in network else ""
    text += f"; hash of the weights {known.run.model_hash()}"
    return Filled(text, f"{INDEX}, {RUN}: identity.options", "a description in words or a reference to one")


def conditions(known: Known) -> Filled | None:
    """What conditions the model."""
    columns = (known.settings.get("trained_on") or {}).get("columns", {})
    visible = {"reads_text": "text", "mask_classes": "segmentation mask", "prior_channels": "prior image"}
    given = [what for name, what in visible.items() if known.settings.get(name)] + list(columns)
    if not given:
        return None
    return Filled(f"the model is conditioned on {', '.join(given)}", GENERATOR, "why these were chosen")


def software(known: Known) -> Filled | None:
    """Libraries with their versions."""
    made, judged = known.description.get("environment"), known.scores.get("versions")
    listed = [f"training: {_versions(made)}"] if made else []
    listed += [f"evaluation: {_versions(judged)}"] if judged else []
    sources = [RUN] * bool(made) + [SCORES] * bool(judged)
    return Filled("; ".join(listed), ", ".join(sources)) if listed else None


def _versions(values: dict[str, Any]) -> str:
    skipped = ("threads", "processes", "cores", "device", "platform")
    return ", ".join(f"{name} {version}" for name, version in sorted(values.items()) if name not in skipped)


def initialisation(known: Known) -> Filled | None:
    """Where weights came from."""
    if not known.options:
        return None
    origins = [f"{what} (--{name.partition('_')[0]})" for name, what in ORIGINS.items() if known.options.get(name)]
    start = f"from {', '.join(origins)}" if origins else "at random"
    encoder = (known.options.get("text") or {}).get("encoder")
    text = f"; text encoder: {'trained with the model' if encoder == 'local' else 'pretrained'}" if encoder else ""
    add = "which weights, and what they were trained on" if origins or "pretrained" in text else ""
    return Filled(f"{start}, seed {known.options['loop'].get('seed')}{text}", f"{RUN}: identity.options", add)


def training(known: Known) -> Filled | None:
    """How the model was trained."""
    if not known.options:
        return None
    loop = known.options["loop"]
    listed = [f"{name.replace('_', ' ')} {loop[name]}" for name in TRAINED_WITH if name in loop]
    augmented = known.options.get("augment")
    listed += [f"augmentation {augmented}"] if augmented else []
    device = known.description["environment"].get("device")
    listed += [f"device {device}"] if device else []
    return Filled(", ".join(listed), f"{RUN}: identity.options.loop")


def selection(known: Known) -> Filled | None:
    """Which of the trained models is used."""
    if known.run is None:
        return None
    if known.run.step:
        value = f"{known.run.step}, one of the models with the lowest validation loss"
        return Filled(value, "the run's folder best")
    value = "the last step of the training, with averaged weights where ema is above 0"
    return Filled(value, "the run's folder model")


def one_model(known: Known) -> Filled | None:
    """Whether several models are combined."""
    return None if known.run is None else Filled("one model, no ensemble", "the run folder")


def output(known: Known) -> Filled | None:
    """What the model gives out, and how it is sampled."""
    spec, sampling = known.identity.get("spec"), known.settings.get("sampling")
    if spec is None or not sampling:
        return None
    size, names = " x ".join(map(str, spec["size"])), ", ".join(sorted(spec["intensity"]))
    settings = ", ".join(f"{name} {value}" for name, value in sorted(sampling.items()) if value not in (None, {}, []))
    value = f"synthetic images of {size} pixels ({names}); sampled with {settings}"
    return Filled(value, f"{GENERATOR}: sampling, {RUN}: identity.spec")


def metrics_used(known: Known) -> Filled | None:
    """Which metrics were measured."""
    if not known.metrics:
        return None
    primary = dict.fromkeys(metric["name"] for metric in known.primary)
    others = [name for name in dict.fromkeys(metric["name"] for metric in known.metrics) if name not in primary]
    lead = f"primary, by a plan: {', '.join(primary)}; exploratory" if primary else "no plan; all exploratory"
    return Filled(f"{lead}: {', '.join(others)}; definitions: docs/metrics.md of medloom", f"{SCORES}: metrics, plan")


def uncertainty(known: Known) -> Filled | None:
    """How uncertainty is stated."""
    if not known.metrics:
        return None
    own = [metric for metric in known.metrics if metric["low"] is not None]
    counted = ", ".join(dict.fromkeys(metric["counted"] for metric in own))
    value = f"95 % intervals of {len(own)} of {len(known.metrics)} metrics, over {counted or 'no units'}"
    joint = "; the bounds of the plan have to hold jointly, without a correction" if known.scores.get("plan") else ""
    return Filled(f"{value}{joint}; metrics are not corrected for their total number", f"{SCORES}: metrics")


def subgroups(known: Known) -> Filled | None:
    """What was measured apart."""
    sections = ("fidelity", "alignment")
    names = dict.fromkeys(m["subset"] for m in known.metrics if m["subset"] != EVERYTHING and m["section"] in sections)
    if not names:
        return None
    return Filled(f"measured apart: {_listed(list(names))}", f"{SCORES}: metrics", "whether these groups were planned")


def fairness(known: Known) -> Filled | None:
    """The columns by whose values metrics were measured."""
    by = (known.scores.get("options") or {}).get("by")
    if not by:
        return None
    add = "why these groups, and what was done about it"
    return Filled(f"metrics by {', '.join(by)}", f"{SCORES}: options.by", add)


def robustness(known: Known) -> Filled | None:
    """What the metrics see on degraded images."""
    found = [metric for metric in known.metrics if "degraded" in metric["name"]]
    if not found:
        return None
    seen = [f"{metric['extractor']} {metric['subset']} {_value(metric)}" for metric in found]
    value = f"{found[0]['name']}: {_listed(seen)}"
    return Filled(value, f"{SCORES}: metrics", "robustness of the conclusions to choices of the analysis")


def held_out(known: Known) -> Filled | None:
    """On which images it was evaluated, and how often they were opened."""
    sets, opened = known.scores.get("sets") or (), known.scores.get("openings")
    listed = [f"{own['name']}: {own['images']} images, {own['units']} {own['counted']}" for own in sets]
    if opened and not opened["lack"]:
        times = f"held-out images were opened {opened['count']} times, with {opened['plans']} different plans"
        listed.append(f"{times} {opened['note']}".strip())
    if not listed:
        return None
    return Filled("; ".join(listed), f"{SCORES}: sets, openings", "whether held-out images are internal or external")


def numbers(known: Known) -> Filled | None:
    """Patients and images that were used."""
    listed = []
    if known.run is not None:
        own = source_population(known.run)
        images = known.description.get("population", {}).get("images")
        listed.append(f"training: {own['patients trained on']} patients" + f", {images} images" * (images is not None))
        listed.append(f"validation: {own['patients held out for validation']} patients")
    listed += [
        f"evaluation, {own['name']}: {own['images']} images, {own['units']} {own['counted']}"
        for own in known.scores.get("sets") or ()
    ]
    sources = [RUN] * (known.run is not None) + [f"{SCORES}: sets"] * bool(known.scores.get("sets"))
    return Filled("; ".join(listed), ", ".join(sources), "how many were excluded, and why") if listed else None


def characteristics(known: Known) -> Filled | None:
    """Columns of the training table with their ranges."""
    if known.run is None:
        return None
    own = source_population(known.run)
    value = f"training: modalities {own['modalities']}; columns {own['columns in training']}"
    return Filled(value, f"{RUN}, support.json", "distributions in each partition")


def sets_compared(known: Known) -> Filled | None:
    """How the images of training and of evaluation differ."""
    sets = known.scores.get("sets") or []
    if len(sets) < 2:
        return None
    listed = [f"{own['name']}: {own.get('pixels')} pixels, {own.get('levels')}" for own in sets]
    return Filled("; ".join(listed), f"{SCORES}: sets", "differences of settings, patients and definitions")


def classes(known: Known) -> Filled | None:
    """How often each class occurs."""
    sets = [own for own in known.scores.get("sets") or () if own.get("classes")]
    if not sets:
        return None
    listed = [f"{own['name']}: {', '.join(f'{n} {count}' for n, count in own['classes'].items())}" for own in sets]
    return Filled("; ".join(listed), f"{SCORES}: sets", "what was done about rare classes, if anything")


def performance(known: Known) -> Filled | None:
    """The answers of the report, and its primary metrics."""
    answers = known.scores.get("answers")
    if not answers:
        return None
    lines = [f"{own['question']} {own['word'].upper()} {own['figure']}".strip() for own in answers]
    plan = known.scores.get("plan")
    lines += [f"plan, {own['answer']}: {own['line']}" for own in plan["metrics"]] if plan else []
    return Filled("; ".join(lines), f"{SCORES}: answers" + ", plan" * bool(plan))


def analysed(known: Known) -> Filled | None:
    """The n of analyses of all images."""
    rows = [m for m in known.primary or known.metrics if m["subset"] == EVERYTHING]
    if not rows:
        return None
    sizes = dict.fromkeys(f"{m['name']} n {m['n']} {m['counted']}" for m in rows)
    return Filled(_listed(list(sizes)), f"{SCORES}: metrics")


def truth(known: Known) -> Filled | None:
    """The reference of effects and edits of virtual patients; only with it there are verdicts."""
    if not known.scores.get("verdicts"):
        return None
    value = "the true image of each virtual patient under the change, by the causal model of `medloom data phantom`"
    return Filled(value, f"{SCORES}: verdicts")


def failures(known: Known) -> Filled | None:
    """Metrics that are worse than their reference, and verdicts that fail."""
    if not known.metrics:
        return None
    found = [metric for metric in known.metrics if str(metric["reading"]).endswith(WORSE)]
    worse = [" ".join(filter(None, (m["name"], "of", m["subset"], m["extractor"], _value(m)))) for m in found]
    failed = [own for own in known.scores.get("verdicts", ()) if own["answer"] == FAILS]
    worse += [f"{own['attribute']}, {own['metric']} fails" for own in failed]
    value = f"worse than the reference: {_listed(worse)}" if worse else "no metric is worse than its reference"
    return Filled(value, f"{SCORES}: metrics, verdicts", "examples of images that fail, and why")


def limitations(known: Known) -> Filled | None:
    """What was not measured or not shown, and the notes of the report."""
    if not known.scores:
        return None
    open_answers = [
        f"{own['question']} {own['word']}: {own['figure'] or own['sentence']}"
        for own in known.scores.get("answers", ())
        if own["word"] in (NOT_MEASURED, NOT_SHOWN)
    ]
    left_out = [f"section {name} left out: {why}" for name, why in (known.scores.get("left_out") or {}).items()]
    notes = [str(note).rstrip(".") for note in known.scores.get("notes", ())]
    listed = [*open_answers, *left_out, *notes]
    source = f"{SCORES}: answers, left_out, notes"
    return Filled(_listed(listed), source, "limitations of design and data") if listed else None


def protocol(known: Known) -> Filled | None:
    """The plan of the evaluation."""
    plan = known.scores.get("plan")
    if not plan:
        return None
    value = f"plan {plan['file']}, SHA-256 {plan['hash']}..., hashed on {plan['hashed']} before anything was read"
    return Filled(value, f"{SCORES}: plan", "where the plan and the study protocol can be read")


def code(known: Known) -> Filled | None:
    """The software that anyone can have."""
    made = (known.description.get("environment") or {}).get("medloom")
    judged = (known.scores.get("versions") or {}).get("medloom")
    if not made and not judged:
        return None
    value = f"medloom {made or judged}, Apache-2.0"
    return Filled(value, RUN if made else SCORES, "where model, images and code of the study can be had, or why not")


def usable(known: Known) -> Filled | None:
    """How the model can be used by others."""
    if known.run is None:
        return None
    value = f"`medloom.load` of the run folder; hash of the weights {known.run.model_hash()}"
    return Filled(value, "the run folder", "whether it is given away, and to whom")


def _value(metric: dict[str, Any]) -> str:
    return with_interval(metric["value"], metric["low"], metric["high"])


def _listed(names: Sequence[str]) -> str:
    more = f"; and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more
