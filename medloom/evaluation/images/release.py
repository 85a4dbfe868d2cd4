"""The five questions on a set of images, and the rules by which they are answered: those of `--gate release`.

The limits are those of a set that may be given away for research: distributed like real images up to a tenth of their
variance, as varied up to a fifth of the real images, recognised to four fifths of what shuffled conditions leave to
real images, and without copies of patients. A small share of copies or of mirrored images is a fault by the 99 %
interval: there are several such rules, and 95 % each would accuse good sets too often.
"""

from medloom.evaluation.images.alignment import BEYOND_CHANCE
from medloom.evaluation.images.copies import EXCESS as EXCESS_OF_COPIES
from medloom.evaluation.images.copies import FOUND, HELD_OUT, IDENTICAL, LEAST_FOUND, REPEATED
from medloom.evaluation.images.fidelity import EXCESS
from medloom.evaluation.images.orientation import MIRRORED, UPSIDE_DOWN
from medloom.evaluation.images.utility import RELATIVE_UTILITY
from medloom.evaluation.images.variety import MISSING
from medloom.evaluation.report.gate import GateRule
from medloom.evaluation.report.metrics import EVERYTHING
from medloom.evaluation.report.questions import Question

# Edits that the search for copies has to find on the user's own images.
EDITS_FOUND = ("as it is", "mirrored", "brightened by a quarter", "JPEG of quality 30", "cropped to 90 %")


def _rule(metric: str, bound: str, limit: float, of: str = EVERYTHING, optional: bool = False) -> GateRule:
    return GateRule(metric, None, of, bound, limit, optional=optional, any_power=True)


QUESTIONS = (
    Question(
        "Are the images realistic?",
        "They are distributed like held-out real images.",
        "They are not distributed like held-out real images.",
        (
            _rule(EXCESS, "upper_at_most", 0.1),
            _rule(MIRRORED, "lower_99_at_most", 0.05, optional=True),
            _rule(UPSIDE_DOWN, "lower_99_at_most", 0.05, optional=True),
        ),
        faults={
            MIRRORED: "Some of them are mirrored, which real ones are not.",
            UPSIDE_DOWN: "Some of them are upside down, which real ones are not.",
        },
    ),
    Question(
        "Are they as varied as real images?",
        "Real images of all kinds have synthetic images near them.",
        "Kinds of real images are missing.",
        (
            _rule("coverage", "beyond_reference_at_least", -0.2),
            _rule(REPEATED, "beyond_reference_at_most", 0.1),
            _rule(MISSING, "value_at_most", 0.05, optional=True),
        ),
        faults={
            REPEATED: "Images repeat each other more often than real ones do.",
            MISSING: "Classes of real images are missing.",
        },
    ),
    Question(
        "Do they show what was asked for?",
        "A classifier of real images finds the class that was asked for, as in real images.",
        "A classifier of real images finds the class that was asked for less often than in real images.",
        (_rule(BEYOND_CHANCE, "lower_at_least", 0.8),),
    ),
    Question(
        "Do they copy patients' images?",
        "They are as different from training images as unseen real images are.",
        "They contain copies of training images.",
        (
            _rule(EXCESS_OF_COPIES, "upper_at_most", 0.05),
            _rule(EXCESS_OF_COPIES, "lower_99_at_most", 0.0),
            _rule(HELD_OUT, "beyond_reference_at_most", 0.05),
            _rule(IDENTICAL, "value_at_most", 0.0),
            *(GateRule(FOUND, None, edit, "value_at_least", LEAST_FOUND, proof=True) for edit in EDITS_FOUND),
        ),
        of_faults=True,
        faults={
            HELD_OUT: "They contain copies of held-out images, which the generator should not have seen.",
            IDENTICAL: "Some of them are files of real images.",
        },
    ),
    Question(
        "Are they of use to train a classifier?",
        "A classifier trained on them is nearly as good as one trained on real images.",
        "A classifier trained on them is worse than one trained on real images.",
        (_rule(RELATIVE_UTILITY, "lower_at_least", 0.8),),
        required=False,
    ),
)
RELEASE = [rule for question in QUESTIONS if question.required for rule in question.rules]
