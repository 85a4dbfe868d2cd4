"""What a reader wants to know first: a few questions, each with a light, a sentence and one figure.

The lights are the answers of the same rules that `--gate release` enforces, so that the top of a report and the gate
never disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medloom.evaluation.report.bounds import BOUNDS
from medloom.evaluation.report.gate import STARTS, GateRule, Judgement
from medloom.evaluation.report.metrics import (
    EVERYTHING,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    Metric,
    Verdict,
    number,
    with_interval,
)

YES, NO, FOUND, NONE = "yes", "no", "found", "none found"
NOT_SHOWN, NOT_MEASURED = "not shown", "not measured"
GREEN, RED, AMBER, GREY = "green", "red", "amber", "grey"


@dataclass(frozen=True)
class Question:
    """A question and how it is answered.

    Attributes:
        text: the question.
        yes: the answer if all rules hold.
        no: the answer if one fails.
        rules: in order of importance; empty if verdicts answer it.
        verdicts: names of the metrics whose verdicts answer it.
        required: whether `--gate release` asks for a yes.
        of_faults: whether it asks for faults, which are found or not.
        faults: name of a metric to the answer if its rule fails; `no` where it has none.
    """

    text: str
    yes: str
    no: str
    rules: tuple[GateRule, ...] = ()
    verdicts: tuple[str, ...] = ()
    required: bool = True
    of_faults: bool = False
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An answered question.

    Attributes:
        question: its text.
        light: green, red, amber or grey.
        word: the answer in one or two words.
        sentence: the answer.
        figure: the metric that decides, with its interval and what is required; empty if nothing was measured.
        required: whether `--gate release` asks for it.
    """

    question: str
    light: str
    word: str
    sentence: str
    figure: str
    required: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))


def answered(
    question: Question, metrics: Sequence[Metric], verdicts: Sequence[Verdict], unmeasured: Mapping[str, str]
) -> Answer:
    """The answer to a question.

    Args:
        question: the question.
        metrics: of the evaluation.
        verdicts: of the evaluation.
        unmeasured: name of a metric to why it was not measured.
    """
    if question.verdicts:
        own = [verdict for verdict in verdicts if verdict.metric in question.verdicts]
        lack = next((unmeasured[name] for name in question.verdicts if name in unmeasured), "")
        return _of_verdicts(question, own, lack)
    by_rule = [(rule, judged) for rule in question.rules for judged in rule.judge(metrics, unmeasured)]
    found = [judged for _, judged in by_rule]
    measured = [judged for judged in found if judged.measured is not None]
    failed = [judged for judged in measured if judged.answer == FAILS]
    # What is optional can answer with no, and not with yes.
    if not failed and all(rule.optional or judged.measured is None for rule, judged in by_rule):
        return _unanswered(question, found[0].lack if found else "there is nothing to measure it on")
    if failed:
        return _answer(replace(question, no=_fault(question, failed)), False, _figure(failed[0]))
    if all(judged.answer == HOLDS for judged in found):
        return _answer(question, True, _figure(_closest(measured, question.rules[0])))
    undecided = next(judged for judged in found if judged.answer != HOLDS)
    sentence = "Part of it was not measured." if undecided.lack else "These sets cannot decide it."
    reason = undecided.line.removeprefix(f"{STARTS[INCONCLUSIVE]}: ")
    return Answer(question.text, AMBER, NOT_SHOWN, sentence, reason, question.required)


def release(answers: Sequence[Answer]) -> tuple[str, str]:
    """The light and the sentence of all answers together: whether `--gate release` is passed.

    Args:
        answers: in the order of the report.
    """
    required = [answer for answer in answers if answer.required]
    for light, sentence in (
        (RED, "DO NOT RELEASE: {} of {} required answers are red."),
        (AMBER, "NOT SHOWN to be fit for release: {} of {} required answers are open."),
    ):
        found = [answer for answer in required if answer.light == light or (light == AMBER and answer.light == GREY)]
        if found:
            return light, sentence.format(len(found), len(required))
    return GREEN, f"FIT FOR RELEASE by the rules of --gate release: all {len(required)} required answers are green."


def _of_verdicts(question: Question, verdicts: Sequence[Verdict], lack: str) -> Answer:
    if not verdicts:
        return _unanswered(question, lack or "there is no verdict on it")
    # Of verdicts that there are, each has to hold.
    question = replace(question, required=True)
    answers = [verdict.answer for verdict in verdicts]
    worst = next((v for v in verdicts if v.answer == FAILS), None)
    if worst is not None:
        return _answer(question, False, _verdict(worst))
    undecided = next((v for v in verdicts if v.answer != HOLDS), None)
    if undecided is not None:
        return Answer(
            question.text,
            AMBER,
            NOT_SHOWN,
            f"{answers.count(HOLDS)} of {len(answers)} verdicts hold, the others are inconclusive.",
            _verdict(undecided),
            question.required,
        )
    return _answer(question, True, _verdict(verdicts[0]))


def _answer(question: Question, holds: bool, figure: str) -> Answer:
    word = (NONE if holds else FOUND) if question.of_faults else (YES if holds else NO)
    sentence = question.yes if holds else question.no
    return Answer(question.text, GREEN if holds else RED, word, sentence, figure, question.required)


def _fault(question: Question, failed: Sequence[Judgement]) -> str:
    """What fails, one sentence for each metric."""
    known = [question.faults.get(judged.metric, question.no) for judged in failed]
    return " ".join(dict.fromkeys(known))


def _unanswered(question: Question, reason: str) -> Answer:
    return Answer(question.text, GREY, NOT_MEASURED, f"It was not measured: {reason}.", "", question.required)


def _closest(judged: Sequence[Judgement], rule: GateRule) -> Judgement:
    """Of the answers of the first rule, the one whose value is nearest to the bound."""
    own = [each for each in judged if each.metric == rule.metric and each.limit == rule.required] or list(judged)
    sign = 1 if rule.bound in BOUNDS and BOUNDS[rule.bound].most else -1
    return max(own, key=lambda each: sign * (each.measured.value if each.measured else 0.0))


def _figure(judged: Judgement) -> str:
    metric = judged.measured
    if metric is None:
        return ""
    value, reference = with_interval(metric.value, metric.low, metric.high), metric.reference
    features = f" ({metric.extractor} features)" if metric.extractor else ""
    of = "" if metric.subset == EVERYTHING else f" of {metric.subset}"
    what = f"{metric.name}{of}{features}"
    return f"{what} {value}, compared with {number(reference.value)} ({reference.what}); required: {judged.limit}"


def _verdict(verdict: Verdict) -> str:
    value = with_interval(verdict.value, verdict.low, verdict.high)
    return f"{verdict.attribute}: {verdict.metric} {value}; required: {verdict.bound}"
