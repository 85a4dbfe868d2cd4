"""Text encoders of runs of `medloom train text-encoder`, for generators to read with."""

from dataclasses import replace
from pathlib import Path

from medloom.generators.leakage import refuse_seen_parent
from medloom.generators.options import TextOptions
from medloom.generators.preparation import Prepared
from medloom.generators.run_folder import INDEX, open_run


def find_text_encoder(text: TextOptions, data: Prepared) -> TextOptions:
    """The options of a generator's text, with the model's folder where `encoder` names a run.

    Args:
        text: the options.
        data: the generator's data.

    Raises:
        UserError: a run of another kind, one without a model, or one trained on patients of the data's test set.
    """
    path = Path(text.encoder)
    if not (path / INDEX).is_file():
        return text
    found = open_run(path, ("text-encoder",), "--text.encoder")
    refuse_seen_parent(found, data, "text encoder")
    return replace(text, encoder=str(found.model))
