"""The form of Generate: what was filled in, as a command line."""

from collections.abc import Callable, Mapping
from pathlib import Path

from medloom.core.seeds import MAX_SEED
from medloom.studio.forms.reading import Reading
from medloom.studio.model_facts import ColumnFacts, ModelFacts

# Images, and steps, that one form may ask for.
MOST, MOST_STEPS = 64, 1000
MOST_GUIDANCE = 100.0
# Fields of the table's columns begin so.
COLUMN = "column."

# What the form of a job has of values that training has not seen.
OUTSIDE = "outside"

# From the value of a field to the file that it names.
FindFile = Callable[[str], Path]


def generate_words(
    path: Path, facts: ModelFacts, form: Mapping[str, str], find_mask: FindFile
) -> tuple[list[str], str]:
    """Arguments of `medloom generate`, without the output folder, and a title.

    Args:
        path: run folder of the model.
        facts: what it can be asked.
        form: as the browser sent it.
        find_mask: the file of a mask that was picked or brought.

    Raises:
        FormError: something is missing or out of range; names every field.
    """
    reading = Reading(form)
    modality = reading.choice("modality", "The modality", facts.units) or next(iter(facts.units))
    words = [f"--model={path}", f"--modality={modality}"]
    view = reading.choice("view", "The view", facts.views)
    words += [f"--view={view}"] if view else []
    words += prompt_words(reading, facts)
    words += mask_words(reading, facts, find_mask)
    words += table_words(reading, facts)
    count = reading.whole("n", "The number of images", 1, MOST, 4)
    seed = reading.whole("seed", "The seed", 0, MAX_SEED - MOST, 0)
    words += [f"--n={count}", f"--seed={seed}", *sampling_words(reading, facts)]
    if facts.steps is not None and reading.switch("strip"):
        words.append("--show-steps")
    reading.require_all_right()
    return words, f"{count} {modality} image{'s' if count > 1 else ''}, seed {seed}"


def prompt_words(reading: Reading, facts: ModelFacts) -> list[str]:
    """The option of the prompt."""
    text = reading.text("text")
    if not text and "text" in facts.needs:
        reading.refuse("text", "Say what the images should show: every training image had a text.")
    return [f"--prompt={text}"] if text and facts.reads_text else []


def mask_words(reading: Reading, facts: ModelFacts, find_mask: FindFile) -> list[str]:
    """The option of the mask."""
    chosen = reading.text("mask") if "mask" in facts.parts else ""
    if not chosen:
        if "mask" in facts.needs:
            reading.refuse("mask", "Pick a mask or bring one: every training image had a mask.")
        return []
    return [f"--mask={find_mask(chosen)}"]


def table_words(reading: Reading, facts: ModelFacts) -> list[str]:
    """The option of the table, and that of values outside of training where it is ticked."""
    beyond = reading.switch("beyond")
    cells = {column.name: _cell(reading, column, beyond) for column in facts.table}
    given = [f"{name}={value}" for name, value in cells.items() if value]
    words = [f"--table={','.join(given)}"] if given else []
    return [*words, "--allow-unseen"] if beyond and given else words


def outside_of(facts: ModelFacts, form: Mapping[str, str]) -> list[str]:
    """The numbers of a form that training has not seen, as `age=400`."""
    if "beyond" not in form:
        return []
    given = {column: form.get(f"{COLUMN}{column.name}", "").strip() for column in facts.table if not column.categories}
    return [
        f"{column.name}={value}"
        for column, value in given.items()
        if value and not column.low <= float(value) <= column.high
    ]


def _cell(reading: Reading, column: ColumnFacts, beyond: bool) -> str:
    """The value of a column; empty where it is unknown."""
    name = f"{COLUMN}{column.name}"
    if column.categories:
        value = reading.choice(name, column.name, column.categories)
    elif beyond:
        value = reading.number(name, column.name, -1e9, 1e9)
    else:
        hint = ", as in training, or allow values outside of it"
        value = reading.number(name, column.name, column.low, column.high, hint)
    if not value and column.needed and name not in reading.wrong:
        reading.refuse(name, f"Give {column.name}: every training image had a value.")
    return value


def sampling_words(reading: Reading, facts: ModelFacts) -> list[str]:
    """The options of the sampler, where the model has one."""
    if facts.steps is None:
        return []
    words = []
    if reading.text("steps"):
        words.append(f"--steps={reading.whole('steps', 'The number of steps', 1, MOST_STEPS, facts.steps)}")
    guidance = reading.number("guidance", "The guidance", 0, MOST_GUIDANCE) if facts.can_guide else ""
    words += [f"--guidance={guidance}"] if guidance else []
    negative = reading.text("negative") if facts.can_guide and facts.reads_text else ""
    if negative and (guidance or f"{facts.guidance:g}") in ("1", "1.0"):
        reading.refuse("negative", "A text to avoid needs a guidance other than 1, which does not look at it.")
    return [*words, f"--negative={negative}"] if negative else words
