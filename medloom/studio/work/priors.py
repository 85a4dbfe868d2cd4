"""The prior image of an edit as the editor saw it, kept next to the edits, so that the two can be compared."""

from dataclasses import replace
from pathlib import Path

from medloom.core.spec import GREY, HU
from medloom.core.types import Condition
from medloom.data.images import write_derived
from medloom.generation.produce import load_model
from medloom.generators.framing import frame_images
from medloom.recipes.edit import Config
from medloom.studio.store.jobs import Job
from medloom.studio.store.store import Store

SEEN = "the prior image of an edit in the space of the editor"


def keep_prior(store: Store, job: Job, config: Config) -> Path:
    """Write the prior image of an edit in the editor's space and the edits' unit; returns its path.

    Args:
        store: of the studio.
        job: that edited.
        config: its options, with an image.
    """
    generator = load_model(config).generator
    condition = generator.completed(Condition(modality=config.modality, view=config.view, prior=config.image))
    array = generator.reader.prior(condition)
    image = frame_images(generator.reader, [condition], array[None])[0]
    if len(image.size) == 3:
        ending = ".nii.gz"
    elif image.unit == HU:
        ending = ".dcm"
    else:
        # Relative values are levels in the edits' files too.
        ending, image = ".png", image if image.unit == GREY else replace(image, padding=None)
    path = store.priors(job.id) / f"prior{ending}"
    write_derived(path, image, SEEN)
    return path
