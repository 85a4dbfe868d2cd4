"""The form of Edit: a prior image, an instruction, and where the image may change, as a command line."""

from collections.abc import Mapping
from pathlib import Path

from medloom.core.seeds import MAX_SEED
from medloom.core.spec import HU
from medloom.generators.sampling import AUTO, EVERYWHERE, STARTS
from medloom.studio.forms.generate import MOST, FindFile, sampling_words
from medloom.studio.forms.reading import Reading
from medloom.studio.model_facts import ModelFacts

BRUSH = "brush"
REGIONS = (AUTO, EVERYWHERE, BRUSH)
# Days between two images: a hundred years.
MOST_DAYS = 36525


def edit_words(
    path: Path, facts: ModelFacts, form: Mapping[str, str], find_prior: FindFile, find_region: FindFile
) -> tuple[list[str], str]:
    """Arguments of `medloom edit`, without the output folder, and a title.

    Args:
        path: run folder of the editor.
        facts: what it can be asked.
        form: as the browser sent it.
        find_prior: the file of the prior image that was picked or brought.
        find_region: the file of the region that was drawn.

    Raises:
        FormError: something is missing or out of range; names every field.
    """
    reading = Reading(form)
    modality = reading.choice("modality", "The modality", facts.units) or next(iter(facts.units))
    chosen = reading.text("prior")
    if not chosen:
        reading.refuse("prior", "Pick a prior image, or bring one.")
    text = reading.text("text")
    if not text:
        reading.refuse("text", "Say what should change, for example: The effusion has resolved.")
    words = [f"--model={path}", f"--modality={modality}", f"--text={text}"]
    words += [f"--image={find_prior(chosen)}"] if chosen else []
    words += [f"--unit={HU}"] if facts.units[modality] == HU and facts.dims == 3 else []
    view = reading.choice("view", "The view", facts.views)
    words += [f"--view={view}"] if view else []
    if facts.days:
        days = reading.number("days", "The days between the two images", 0, MOST_DAYS)
        words += [f"--days={days}"] if days else []
    words += _start_words(reading) + _region_words(reading, facts, find_region)
    count = reading.whole("n", "The number of images", 1, MOST, 2)
    seed = reading.whole("seed", "The seed", 0, MAX_SEED - MOST, 0)
    words += [f"--n={count}", f"--seed={seed}", *sampling_words(reading, facts)]
    reading.require_all_right()
    return words, f"{count} edit{'s' if count > 1 else ''}, {modality}, seed {seed}"


def _start_words(reading: Reading) -> list[str]:
    start = reading.choice("start", "The start", STARTS) or STARTS[0]
    if start == STARTS[0]:
        return []
    strength = reading.number("strength", "The strength", 0.01, 1)
    return [f"--start={start}", *([f"--strength={strength}"] if strength else [])]


def _region_words(reading: Reading, facts: ModelFacts, find_region: FindFile) -> list[str]:
    """The option of the region; none leaves the choice to the model."""
    region = reading.choice("region", "The region", REGIONS)
    if region == BRUSH:
        drawn = reading.text("drawn")
        if not drawn:
            reading.refuse("region", "Draw the region on the prior image, or choose another one.")
            return []
        return [f"--region={find_region(drawn)}"]
    if region == AUTO and not facts.finds_regions:
        reading.refuse(
            "region", "This model learnt no instruction for no change, so it finds no region: choose another."
        )
        return []
    return [f"--region={region}"] if region else []
