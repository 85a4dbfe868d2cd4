"""What a reader wants to know first: a few questions, each with a light, a sentence and one figure.

The lights are the answers of the same rules that `--gate release` enforces, so that the top of a report and the gate
never disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medloom.evaluation.report.gate import BOUNDS, STARTS, GateRule, Judgement
from medloom.evaluation.report.metrics import FAILS, HOLDS, INCONCLUSIVE, Metric, Verdict, number, with_interval

YES, NO, NONE, NOT_SHOWN, NOT_MEASURED = "yes", "no", "none found", "not shown", "not measured"


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
        bad: whether a yes is the bad answer, as of copies.
    """

    text: str
    yes: str
    no: str
    rules: tuple[GateRule, ...] = ()
    verdicts: tuple[str, ...] = ()
    required: bool = True
    bad: bool = False


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
    found = [judged for rule in question.rules for judged in rule.judge(metrics, unmeasured)]
    measured = [judged for judged in found if judged.measured is not None]
    failed = [judged for judged in measured if judged.answer == FAILS]
    if not measured:
        return _unanswered(question, found[0].lack if found else "there is nothing to measure it on")
    if failed:
        return _answer(question, False, _figure(failed[0]))
    if all(judged.answer == HOLDS for judged in found):
        return _answer(question, True, _figure(_closest(measured, question.rules[0])))
    undecided = next(judged for judged in found if judged.answer != HOLDS)
    sentence = "Part of it was not measured." if undecided.lack else "These sets cannot decide it."
    reason = undecided.line.removeprefix(f"{STARTS[INCONCLUSIVE]}: ")
    return Answer(question.text, "amber", NOT_SHOWN, sentence, reason, question.required)


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
            "amber",
            NOT_SHOWN,
            f"{answers.count(HOLDS)} of {len(answers)} verdicts hold, the others are inconclusive.",
            _verdict(undecided),
            question.required,
        )
    return _answer(question, True, _verdict(verdicts[0]))


def _answer(question: Question, holds: bool, figure: str) -> Answer:
    word = (NONE if holds else YES) if question.bad else (YES if holds else NO)
    sentence = question.yes if holds else question.no
    return Answer(question.text, "green" if holds else "red", word, sentence, figure, question.required)


def _unanswered(question: Question, reason: str) -> Answer:
    return Answer(question.text, "grey", NOT_MEASURED, f"It was not measured: {reason}.", "", question.required)


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
    return f"{metric} {value}, compared with {number(reference.value)} ({reference.what}); required: {judged.limit}"


def _verdict(verdict: Verdict) -> str:
    value = with_interval(verdict.value, verdict.low, verdict.high)
    return f"{verdict.attribute}: {verdict.metric} {value}; required: {verdict.bound}"
