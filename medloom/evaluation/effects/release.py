"""The questions on a what-if; verdicts answer them, which exist where the truth is known."""

from medloom.evaluation.effects.observed import OBSERVED
from medloom.evaluation.effects.recovery import BEYOND, EFFECT, ERROR, FRACTION, INTERCEPT, MAPS, OUTSIDE, SIGNS
from medloom.evaluation.effects.regions import SHIFT
from medloom.evaluation.report.questions import Question

# Differences, to which no ratio is taken.
SIGNED = (BEYOND, EFFECT, ERROR, INTERCEPT, OBSERVED, SHIFT)

LACK = "the truth is not known: give --truth with the phantom cohort of these patients"
QUESTIONS = (
    Question(
        "Is the size of each effect right?",
        "The generator recovers the size of the true effects.",
        "The generator misses the size of a true effect.",
        verdicts=(FRACTION,),
    ),
    Question(
        "Is its direction right for nearly every patient?",
        "Patients whose effect can be seen change in the true direction.",
        "For too many patients an effect has the wrong direction.",
        verdicts=(SIGNS,),
    ),
    Question(
        "Is the change in the right place?",
        "The difference maps agree with the true ones.",
        "The difference maps do not agree with the true ones.",
        verdicts=(MAPS,),
    ),
    Question(
        "Does everything else stay as it is?",
        "Where the truth changes nothing, the images hardly change.",
        "The images change where the truth changes nothing.",
        verdicts=(OUTSIDE,),
    ),
    Question(
        "Does a change that does nothing change nothing?",
        "A placebo has no effect.",
        "A placebo has an effect: the generator confuses it with its correlates.",
        verdicts=(EFFECT,),
        required=False,
    ),
)
