"""A filter: an ensemble that says how likely experts would rate an image highest, and how sure that is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, explained_content, read_mapping, write_json
from medloom.core.image import Image
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.data.transforms import to_model
from medloom.feedback.filter.calibration import Calibration
from medloom.feedback.filter.member import Member, Pairs
from medloom.feedback.filter.network import QualityNetwork
from medloom.feedback.filter.prompts import prompt_words
from medloom.networks.text import load_text_parts

SETTINGS = "filter.json"
NETWORK, TOKENIZER, TEXT = "network", "tokenizer", "text_encoder"
BEST = 3


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a filter says of images.

    Attributes:
        score: calibrated probability of the best level, `(N,)`: acceptable and a match.
        uncertainty: standard deviation of the score over the ensemble, `(N,)`.
        artefact: probability of an artefact, `(N,)`.
        levels: mean probabilities of the levels 1, 2 and 3, `(N, 3)`, not calibrated.
    """

    score: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    artefact: NDArray[np.float64]
    levels: NDArray[np.float64]

    @property
    def reward(self) -> NDArray[np.float64]:
        """What reinforcement raises: the score of an image without an artefact."""
        return self.score * (1 - self.artefact)


@dataclass(frozen=True, eq=False)
class QualityFilter:
    """A trained filter.

    Attributes:
        members: of the ensemble.
        spec: the space in which images are judged.
        columns: of the table that are part of the prompt.
        calibration: of the scores.
        max_tokens: of a prompt.
    """

    members: Sequence[Member]
    spec: ImageSpec
    columns: tuple[str, ...]
    calibration: Calibration
    max_tokens: int

    def judge(self, images: Sequence[Image], conditions: Sequence[Condition]) -> Judgement:
        """Judge images in the values of their modality.

        Args:
            images: as files of them are read, or generators make them.
            conditions: what each should show.

        Raises:
            UserError: a modality or unit that the filter does not know.
        """
        known = sorted(self.spec.intensity)
        arrays = [
            to_model(image, self.spec, condition.modality or known[0]).array
            for image, condition in zip(images, conditions, strict=True)
        ]
        return self.judge_arrays(np.stack(arrays), [prompt_words(condition, self.columns) for condition in conditions])

    def judge_arrays(self, images: NDArray[np.floating], prompts: Sequence[str]) -> Judgement:
        """Judge images `(N, C, *size)` in the filter's space."""
        judged = [member.judge(Pairs(images, prompts)) for member in self.members]
        levels = np.stack([levels for levels, _ in judged]).astype(np.float64)
        best = levels[:, :, BEST - 1]
        return Judgement(
            self.calibration.apply(best.mean(0)),
            self.calibration.apply(best).std(0),
            np.mean([artefact for _, artefact in judged], axis=0, dtype=np.float64),
            levels.mean(0),
        )

    def save(self, folder: Path) -> None:
        """Write the filter: safetensors and JSON."""
        with atomic_folder(folder) as temporary:
            for number, member in enumerate(self.members):
                own = temporary / f"member-{number}"
                member.text.save(own / TOKENIZER, own / TEXT)
                member.network.save_pretrained(own / NETWORK)
            settings = {
                "members": len(self.members),
                "spec": self.spec.to_dict(),
                "columns": list(self.columns),
                "calibration": asdict(self.calibration),
                "max_tokens": self.max_tokens,
            }
            write_json(temporary / SETTINGS, settings)


def load_filter(folder: Path, option: str = "--model") -> QualityFilter:
    """Read what `QualityFilter.save` wrote.

    Raises:
        UserError: no filter, or one that is damaged.
    """
    if not (folder / SETTINGS).is_file():
        raise UserError(f"{option} {folder} is no filter: it has no {SETTINGS}.")
    settings = read_mapping(folder / SETTINGS)
    with explained_content(folder / SETTINGS):
        count, max_tokens = int(settings["members"]), int(settings["max_tokens"])
        spec, columns = ImageSpec.from_dict(settings["spec"]), tuple(settings["columns"])
        calibration = Calibration(**settings["calibration"])
    members = []
    for number in range(count):
        own = folder / f"member-{number}"
        text = load_text_parts(str(own / TEXT), str(own / TOKENIZER), max_tokens, "trim")
        members.append(Member(text, QualityNetwork.from_pretrained(own / NETWORK)).eval())
    return QualityFilter(members, spec, columns, calibration, max_tokens)
