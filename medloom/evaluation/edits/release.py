"""The questions on edits; verdicts answer them, which exist where the truth is known."""

from medloom.evaluation.edits.measure import CHANGE, NULL
from medloom.evaluation.edits.truth import FRACTION, RIGHT, STAYED
from medloom.evaluation.report.questions import Question

# Metrics whose reference may be 0.
SIGNED = (CHANGE, NULL, STAYED)
LACK = "the truth is not known: give --truth with the phantom cohort of these triples, and --reference"
QUESTIONS = (
    Question(
        "Does the finding that was named change in the right direction, on the right side?",
        "Named findings change as the instruction says.",
        "Too many named findings do not change as the instruction says.",
        verdicts=(RIGHT,),
    ),
    Question(
        "Does it change by the right amount?",
        "Findings change by about as much as they truly did.",
        "A finding changes by much more or less than it truly did.",
        verdicts=(FRACTION,),
    ),
    Question(
        "Does what is not named stay as it is?",
        "Heart, chest, lungs and bones stay as they are.",
        "Something that was not named changes.",
        verdicts=(STAYED,),
    ),
    Question(
        "Does an instruction of no change change nothing?",
        "Without a change to make, the image stays as it is.",
        "The image changes although no change was asked for.",
        verdicts=(NULL,),
    ),
)
