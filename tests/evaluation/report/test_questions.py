"""The answers at the top of a report, and what they mean together."""

import pytest

from medloom.evaluation.report.gate import GateRule
from medloom.evaluation.report.metrics import LOWER, Metric, Reference
from medloom.evaluation.report.questions import AMBER, GREEN, GREY, RED, Answer, Question, answered, release

QUESTION = Question(
    "Do they copy?",
    "They do not.",
    "They copy.",
    (
        GateRule("copies", None, "all", "upper_at_most", 0.1),
        GateRule("repeats", None, "all", "upper_at_most", 0.1),
    ),
    of_faults=True,
    faults={"repeats": "They repeat each other."},
)


def metric(name: str, value: float) -> Metric:
    return Metric(name, "all", value, value - 0.02, value + 0.02, 90, "images", Reference("none", 0.0), LOWER)


@pytest.mark.parametrize(
    ("copies", "repeats", "light", "word", "sentence"),
    [
        (0.0, 0.0, GREEN, "none found", "They do not."),
        (0.5, 0.0, RED, "found", "They copy."),
        (0.0, 0.5, RED, "found", "They repeat each other."),
        (0.5, 0.5, RED, "found", "They copy. They repeat each other."),
        (0.0, 0.1, AMBER, "not shown", "These sets cannot decide it."),
    ],
)
def test_the_sentence_names_what_fails(copies: float, repeats: float, light: str, word: str, sentence: str) -> None:
    answer = answered(QUESTION, [metric("copies", copies), metric("repeats", repeats)], [], {})
    assert (answer.light, answer.word, answer.sentence) == (light, word, sentence)
    assert "of all" not in answer.figure or light == AMBER


@pytest.mark.parametrize(
    ("lights", "light", "words"),
    [
        ((GREEN, GREEN), GREEN, "FIT FOR RELEASE by the rules of --gate release: all 2 required answers are green."),
        ((GREEN, GREY), AMBER, "NOT SHOWN to be fit for release: 1 of 2 required answers are open."),
        ((AMBER, GREY), AMBER, "NOT SHOWN to be fit for release: 2 of 2 required answers are open."),
        ((AMBER, RED), RED, "DO NOT RELEASE: 1 of 2 required answers are red."),
    ],
)
def test_all_answers_together(lights: tuple[str, str], light: str, words: str) -> None:
    answers = [Answer("?", own, "", "", "", required=True) for own in lights]
    assert release([*answers, Answer("?", RED, "", "", "", required=False)]) == (light, words)
