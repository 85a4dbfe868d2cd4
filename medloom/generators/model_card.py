"""The model card that stands in every finished run."""

from pathlib import Path

from medloom.core.files import write_text
from medloom.core.spec import ImageSpec

CARD = """# Model card

**Research use only.** Images made by this model are SYNTHETIC. They must not be used for diagnosis, treatment or any
other decision about a person.

| | |
|---|---|
| what it makes | {dims}-D images of {size}, {channels} |
| modalities | {modalities} |
| training images | {images} |
| optimiser steps | {steps} |

## Limits
- It shows what its training data showed, with their biases; conditions that were rare in them are drawn badly.
- It may repeat training images. Audit a release against the training set first.
- A text that asks for a finding does not guarantee that the image shows it.

## Intensities
{intensities}
"""


def write_card(run: Path, spec: ImageSpec, images: int, steps: int) -> None:
    """Write model_card.md to a run folder."""
    rows = [
        f"- {name}: {entry.low:g} to {entry.high:g} {entry.unit}"
        if entry.kind == "window"
        else f"- {name}: each image's own percentiles {entry.low:g} to {entry.high:g}; generated in relative units"
        for name, entry in sorted(spec.intensity.items())
    ]
    size = f"{' x '.join(map(str, spec.size))} pixels"
    text = CARD.format(
        dims=spec.spatial_dims,
        size=f"their mask's size, from windows of {size}" if spec.patch else size,
        channels="colour" if spec.channels == 3 else "grey",
        modalities=", ".join(sorted(spec.intensity)),
        images=images,
        steps=steps,
        intensities="\n".join(rows),
    )
    write_text(run / "model_card.md", text)
