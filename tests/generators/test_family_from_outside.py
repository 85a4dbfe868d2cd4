"""A family of generators that medloom does not know: one file and one row of the registry.

It gives every class of the mask a grey level, which the table shifts; training finds the levels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import medloom
from medloom.cli.main import main
from medloom.core.spec import ImageSpec
from medloom.core.types import Batch, Condition
from medloom.generators.base import ImageGenerator, on_cpu
from medloom.generators.base_model import ConditionalModel
from medloom.generators.base_task import LossTask
from medloom.generators.family import Origin
from medloom.generators.generator_family import GeneratorFamily
from medloom.generators.options import VolumeOptions
from medloom.generators.preparation import Prepared
from medloom.generators.registry import FAMILIES, FamilyRow
from medloom.generators.sampling import FROM_NOISE, Edit, GANSampling
from medloom.generators.tensors import ConditionTensors
from medloom.generators.training_data import TrainingData, condition_tensors, repeats
from medloom.generators.training_facts import TrainingFacts, build_text_encoder, condition_config
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder

WIDTH = 16


class Levels(ConditionalModel):
    """A grey level for each class of the mask, shifted by the rest of the condition."""

    def __init__(self, text: TextEncoder, condition: ConditionEncoder, classes: Sequence[int]) -> None:
        super().__init__(text, condition, classes)
        self.own = nn.ModuleDict({"levels": nn.Linear(len(classes) + 1, 1, bias=False), "shift": nn.Linear(WIDTH, 1)})
        nn.init.zeros_(self.own["levels"].weight)

    def forward(self, like: Tensor, condition: ConditionTensors) -> Tensor:
        """Images `(N, 1, *size)`."""
        _, _, pooled = self.context(condition)
        regions = self.regions(condition.mask_labels, like)
        shift = self.own["shift"](pooled).view(-1, *[1] * (like.ndim - 1))
        return self.own["levels"](regions.movedim(1, -1)).movedim(-1, 1) + shift


class MaskPainter(ImageGenerator[Levels, GANSampling]):
    """Paints the mask."""

    family = "painter"
    sampling = GANSampling()
    takes_text = True

    def check_sampling(self, sampling: GANSampling, edit: Edit = FROM_NOISE) -> None:
        """Any."""

    @torch.no_grad()
    def sample(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        sampling: GANSampling | None = None,
        edit: Edit = FROM_NOISE,
    ) -> Tensor:
        """The mask's classes in their levels."""
        known = [self.completed(condition) for condition in conditions]
        inputs = self.inputs(known, frozenset(self.parts), labels=self.mask_labels(known))
        return on_cpu(self.model(torch.zeros(len(known), *self.spec.shape), inputs))

    def save_components(self, folder: Path) -> dict[str, Any]:
        """The levels."""
        save_file(self.model.own.state_dict(), folder / "levels.safetensors")
        return {}

    @classmethod
    def from_components(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        spec: ImageSpec,
        text: TextEncoder,
        condition: ConditionEncoder | None,
    ) -> "MaskPainter":
        """Read the levels."""
        assert condition is not None
        model = Levels(text, condition, settings["mask_classes"])
        model.own.load_state_dict(load_file(folder / "levels.safetensors"))
        return cls(spec, model, settings["modality_as"], settings["train_text"])


@dataclass(frozen=True, eq=False)
class PainterBatch(Batch):
    """Images and their conditions."""

    condition: ConditionTensors


class PainterTask(LossTask[MaskPainter, PainterBatch]):
    """The squared error of the painted mask."""

    def batch(
        self,
        data: TrainingData,
        rows: Sequence[int],
        step: int | str,
        dropout: float | None = None,
        repeated: Sequence[int] | None = None,
    ) -> PainterBatch:
        """Images with their whole conditions."""
        _, uniforms = self.draws(rows, step, repeats(rows) if repeated is None else repeated)
        condition = condition_tensors(self.generator, data, rows, uniforms[:, 1], 0.0)
        return PainterBatch(data.images(rows), tuple(rows), step if isinstance(step, int) else -1, condition)

    def _losses(self, model: nn.Module, batch: PainterBatch) -> Tensor:
        return (model(batch.images, batch.condition) - batch.images).square().flatten(1).mean(1)


@dataclass(frozen=True, kw_only=True)
class PaintMasks(VolumeOptions):
    """Train a painter of masks."""

    family: ClassVar[str] = "painter"
    task: ClassVar[str] = "painter"
    use: ClassVar[str] = "medloom generate --model {} --data test.csv --out images"
    need: ClassVar[tuple[str, ...]] = ("path", "mask")


class PainterFamily(GeneratorFamily[PaintMasks, MaskPainter, None]):
    """As the training program sees it."""

    name = "painter"
    generator = MaskPainter

    def mask_labels(self, options: PaintMasks) -> tuple[int, ...] | None:
        """All labels of the masks."""
        return ()

    def prepare_space(self, options: PaintMasks, data: Prepared, origin: Origin) -> tuple[Prepared, None]:
        """Pixels."""
        return data, None

    def fresh(
        self, options: PaintMasks, data: Prepared, facts: TrainingFacts, coder: None, origin: Origin
    ) -> MaskPainter:
        """Levels of 0."""
        text = build_text_encoder(facts.corpus, options.text, options.loop.seed)
        condition = ConditionEncoder(condition_config(facts, options.text, text.width, WIDTH))
        return MaskPainter(data.spec, Levels(text, condition, facts.masks.visible), options.text.modality_as, True)

    def continued(
        self, options: PaintMasks, data: Prepared, facts: TrainingFacts, coder: None, known: MaskPainter
    ) -> MaskPainter:
        """As it is."""
        return known

    def own_components(self, trained: MaskPainter) -> dict[str, Any]:
        """The levels."""
        return {"levels": trained.model.own}

    def task(self, options: PaintMasks, data: Prepared, trained: MaskPainter, accelerator: Any) -> PainterTask:
        """Levels from the training rows."""
        train, validation, render = self.caches(options, data, trained, accelerator)
        return PainterTask(trained, train, validation, options.loop, 0.0, accelerator.device, render)


@pytest.mark.slow
def test_train_generate_whatif_and_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FAMILIES, "painter", FamilyRow(PainterFamily, (PaintMasks,)))
    monkeypatch.chdir(tmp_path)

    def run(command: str, status: int = 0) -> None:
        assert main(command.split()) == status, capsys.readouterr().err

    run("data phantom --out cohort --patients 100 --test 0.5 --size 16 --seed 1")
    run("train painter --data cohort/train.csv --out run --image-size 16 --table smoking --device cpu"
        " --loop.steps 80 --loop.batch 8 --loop.validate-every 80 --loop.learning-rate 0.05")  # fmt: skip
    run("train painter --data cohort/train.csv --out other --size small", status=2)
    assert "comes without any size" in capsys.readouterr().err
    run("generate --model run --data cohort/test.csv --out made --device cpu")
    run("whatif --model run --data cohort/test.csv --set smoking=never --rows 4 --n 1 --out whatif --device cpu")
    run("evaluate whatif whatif/manifest.csv --truth cohort --out effects")
    run("evaluate images --real cohort/test.csv --synthetic made/manifest.csv --label none --only fidelity"
        " --features pixels --image-size 16 --out report --device cpu")  # fmt: skip
    for folder in ("effects", "report"):
        assert json.loads((tmp_path / folder / "scores.json").read_text())["metrics"]
    run("train --help")
    assert "train a painter of masks" in capsys.readouterr().out

    # Where the mask is, the image has that class's own grey.
    model = medloom.load("run", device="cpu")
    condition = model.conditions(medloom.read_manifest(tmp_path / "cohort" / "test.csv"))[0]
    assert condition.mask_file is not None
    mask = medloom.data.read_mask(condition.mask_file)
    painted = model.generate(condition, seed=0)[0].pixels.squeeze()
    labels = np.asarray(mask.pixels).squeeze()
    levels = [painted[labels == label] for label in np.unique(labels)]
    assert len(levels) > 2 and all(np.ptp(level) < 1e-3 for level in levels)
    assert max(level.mean() for level in levels) - min(level.mean() for level in levels) > 100, "HU"
