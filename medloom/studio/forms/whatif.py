"""The form of What-if: a case, and what is changed of it, as a command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medloom.core.cells import spelled
from medloom.core.seeds import MAX_SEED
from medloom.data.prompts.arms import ESTIMANDS
from medloom.studio.forms.generate import sampling_words
from medloom.studio.forms.reading import Reading
from medloom.studio.model_facts import ColumnFacts, ModelFacts

# Fields of what is changed begin so.
SET = "set."
# And those of what was recorded so.
WAS = "was."
MOST_ARMS, MOST_SEEDS = 6, 32


def whatif_words(
    path: Path, facts: ModelFacts, form: Mapping[str, str], arms: Sequence[str], data: Path
) -> tuple[list[str], str]:
    """Arguments of `medloom whatif`, without the output folder, and a title.

    Args:
        path: run folder of the model.
        facts: what it can be asked.
        form: as the browser sent it.
        arms: changes that were noted before, as `age=24,sex=male`.
        data: a table of the one case.

    Raises:
        FormError: nothing is changed, or a value is out of range; names every field.
    """
    reading = Reading(form)
    beyond = reading.switch("beyond")
    now = arm_of(reading, facts, beyond)
    wanted = [arm for arm in dict.fromkeys([*arms, now]) if arm]
    if not wanted and not reading.wrong:
        reading.refuse("", "Change something: what would the image look like if it were different?")
    if len(wanted) > MOST_ARMS:
        reading.refuse("", f"{len(wanted)} changes at a time are too many to read: at most {MOST_ARMS}.")
    words = [f"--model={path}", f"--data={data}", "--rows=1", *(f"--set={arm}" for arm in wanted)]
    estimand = reading.choice("estimand", "The estimand", ESTIMANDS)
    words += [f"--estimand={estimand}"] if estimand else []
    words += ["--allow-unseen"] if beyond else []
    count = reading.whole("n", "The number of seeds", 1, MOST_SEEDS, 4)
    seed = reading.whole("seed", "The seed", 0, MAX_SEED - MOST_SEEDS, 0)
    words += [f"--n={count}", f"--seed={seed}", *sampling_words(reading, facts)]
    reading.require_all_right()
    return words, f"what if {'; '.join(wanted)}"


def arm_of(reading: Reading, facts: ModelFacts, beyond: bool) -> str:
    """What is changed, as `age=24,sex=male`; empty if nothing is."""
    changes = {}
    for column in facts.attributes:
        # What is left as it was recorded is no change, whatever it is.
        if reading.text(f"{SET}{column.name}") == reading.text(f"{WAS}{column.name}"):
            continue
        if value := _changed(reading, column, beyond):
            changes[column.name] = value
    return ",".join(f"{name}={value}" for name, value in changes.items())


def _changed(reading: Reading, column: ColumnFacts, beyond: bool) -> str:
    name = f"{SET}{column.name}"
    if column.categories:
        return reading.choice(name, column.name, column.categories)
    low, high = (-1e9, 1e9) if beyond else (column.low, column.high)
    return reading.number(name, column.name, low, high, "" if beyond else ", as in training, or allow others")


def as_recorded(cell: object) -> str:
    """A cell of the case as the form has it; empty where it is unknown."""
    return "" if cell is None else spelled(cell)
