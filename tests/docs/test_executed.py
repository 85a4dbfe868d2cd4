"""README and docs run as they stand: each block in order, on a small table with missing cells, and next steps."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import page_files as files
import pytest
from page_blocks import Block, Session, blocks, run_page

from medloom.metrics import METRICS

INSTALLED = "installs packages from a network"
JUDGES = "judges need studies of other patients with masks; tests/recipes/test_evaluate_edits.py trains them"
EIGHT = "needs eight processes"
# Page -> beginning of a line that is not run -> why.
LEFT_OUT: dict[str, dict[str, str]] = {
    "README.md": {"python3 -m venv": INSTALLED, "pip install": INSTALLED},
    "docs/install.md": {"python3.11 -m venv": INSTALLED, "pip install": INSTALLED},
    "docs/train.md": {"torchrun": EIGHT},
    "docs/generate.md": {"torchrun": EIGHT},
    "docs/rating-pages.md": {"medloom studio --rate": "serves pages until it is ended; tests/studio start it"},
    "docs/studio.md": {"medloom studio --model": "serves pages until it is ended; tests/studio start it"},
    "docs/edit.md": {
        "medloom evaluate edits controlled/manifest.csv --reference triples.csv --train": JUDGES,
        "python -m benchmarks": "a benchmark with a test of its own, tests/benchmarks/test_edit_settings.py",
    },
}
Step = Callable[[Session], None]


@dataclass(frozen=True)
class Page:
    """How a page is run.

    Attributes:
        yamls: the files that its YAML blocks show, empty for one that shows a part of a file.
        modalities: of the table's images.
        files: writes further files.
        first: commands that other pages explain, before the first block.
        before: number of a block, or how its text begins -> what is prepared before it.
        names: variables that its Python blocks take as given.
        settings: tiny settings that differ on this page.
        placeholders: of next steps, where they differ on this page.
        refused: beginning of a command -> exit statuses that the page names.
        empty_texts: whether train.csv and test.csv have rows without a text, which `train text2image` refuses.
        quick: takes at most half a minute, and so is run in every test run.
    """

    yamls: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("CXR", "CT")
    files: tuple[Callable[[Path], None], ...] = ()
    first: tuple[str, ...] = ()
    before: Mapping[int | str, tuple[Step | str, ...]] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    placeholders: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    empty_texts: bool = False
    quick: bool = False


def without(*names: str) -> Step:
    """Removes what another example of the page has written."""
    return lambda session: [shutil.rmtree(session.folder / name) for name in names] and None


def volumes_for_test(session: Session) -> None:
    """`test.csv` are volumes."""
    shutil.copy(session.folder / "volumes_test.csv", session.folder / "test.csv")


def images_for_test(session: Session) -> None:
    """`test.csv` are images."""
    shutil.copy(session.folder / "images_test.csv", session.folder / "test.csv")


def raw_weights(folder: Path) -> None:
    """Stable Diffusion under the name that the page has for any folder."""
    files.write_stable_diffusion(folder, "FOLDER_OR_HUB_ID")


def scan(folder: Path) -> None:
    files.write_scan(folder / "scan.dcm")


def rated_study(session: Session) -> None:
    """The images of the page's study are rated."""
    files.rate_study(session.folder)


def my_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Distance of the means."""
    return float(np.linalg.norm(x.mean(0) - y.mean(0)))


TEXT2IMAGE = "medloom train text2image --data train.csv --out runs/mm"
GENERATE = "medloom generate --model runs/mm --data test.csv --out images"
TRIPLES = "medloom data journeys chest.csv --register similarity --progression rules --out triples.csv"
CT = "medloom train mask2image --data volumes.csv --table age smoking --dims 3 --patch 32 32 16 --unit HU --out runs/ct"
EDITOR = "medloom train edit --data triples.csv --out runs/edit"
WHATIF = "medloom train mask2image --data volumes.csv --dims 3 --unit HU --image-size 24 24 12"
WHATIF += " --table age smoking diagnosis extent side --out runs/mm"
COHORT = "medloom data phantom --patients 300 --size 64 --out cohort"
COHORT_RUN = "medloom train text2image --data cohort/train.csv --image-size 64 --network.mask channels --out runs/c"
COHORT_WHATIF = "medloom whatif --model runs/c --data cohort/test.csv --set smoking=never --rows 0 --out whatif"
TABLE_RUN = "medloom train mask2image --data train.csv --skip-bad --table age smoking --out runs/mm"
TABLE_WHATIF = "medloom whatif --model runs/mm --data test.csv --skip-bad --set smoking=never --rows 30 --out whatif"
EDITS = "medloom edit --model runs/edit --data triples.csv --out edits"
TEXT_ENCODER = "medloom train text-encoder --data train.csv --skip-bad --out runs/text"
# "If a bound is not met, the command prints value, interval and bound, and ends with status 3."
GATES = (
    "medloom evaluate images --real test.csv --synthetic images/manifest.csv --train train.csv --gate",
    "medloom evaluate whatif whatif/manifest.csv --truth cohort --gate",
)
ROW = {
    "age": 61,
    "sex": "female",
    "smoking": "former",
    "pack_years": 20,
    "diagnosis": "none",
    "extent": None,
    "side": None,
}
ROW |= {"coffee": None}
# "It ends with status 2 if there are problems."
PROBLEMS = {"medloom data check mine.csv": (2,)}
PAGES = {
    "README.md": Page(
        quick=True,
        modalities=("CXR", "Fundus"),
        refused=PROBLEMS,
        files=(files.write_volumes,),
        before={3: (CT, TRIPLES, EDITOR, without("images"))},
        placeholders={
            "check YOUR_TABLE.csv": "check described.csv",
            "YOUR_TABLE.csv": "described.csv",
            "runs/demo/run --data MANIFEST": "runs/demo/run --data runs/demo/cohort/test.csv --skip-bad",
            "runs/ct --data MANIFEST": "runs/ct --data masks.csv",
        },
    ),
    "docs/install.md": Page(quick=True),
    "docs/quickstart.md": Page(refused=PROBLEMS, before={1: (without("cohort"),)}),
    "docs/data.md": Page(files=(scan,), refused=PROBLEMS, quick=True),
    "docs/prompts.md": Page(yamls=("mine.yaml",), files=(files.write_clinic,), names={"row": ROW}, quick=True),
    "docs/import.md": Page(files=(files.write_mimic, files.write_openi, files.write_covid), quick=True),
    "docs/metrics.md": Page(names={"x": np.eye(9)[:, :4], "y": np.eye(9)[:, 1:5]}, quick=True),
    "docs/rating-pages.md": Page(files=(files.write_ratings,), quick=True),
    "docs/phantom.md": Page(settings={"image_size": [64]}, placeholders={"MANIFEST": "cohort/test.csv"}),
    "docs/weights.md": Page(settings={"text.max_tokens": 40}, files=(files.write_weights,)),
    "docs/train.md": Page(
        yamls=("mine.yaml", "grid.yaml"),
        files=(raw_weights,),
        before={9: ("medloom data split described.csv --test 0.4 --out split",)},
    ),
    "docs/generate.md": Page(first=(TEXT2IMAGE,), quick=True),
    "docs/autoencoder.md": Page(yamls=("losses.yaml",), quick=True),
    "docs/tokens.md": Page(empty_texts=True),
    "docs/mask2image.md": Page(
        yamls=("",),
        placeholders={"--model runs/ct --data MANIFEST": "--model runs/ct --data masks.csv"},
        settings={"loop.batch": 1, "network.widths": [8, 8], "network.attention": [False, False]},
        files=(files.write_volumes,),
        before={0: (volumes_for_test,), 3: (images_for_test,)},
        empty_texts=True,
    ),
    "docs/whatif.md": Page(
        files=(files.write_volumes,),
        first=(WHATIF,),
        before={0: (volumes_for_test,)},
        placeholders={"MANIFEST": "masks.csv"},
    ),
    "docs/edit.md": Page(yamls=("baselines.yaml",), files=(files.write_mimic,)),
    "docs/evaluate.md": Page(
        yamls=("release.yaml", "effects.yaml", "plan.yaml"),
        first=(TABLE_RUN, f"{GENERATE} --skip-bad", TEXT_ENCODER),
        before={
            "medloom evaluate images --real test.csv --synthetic a/": tuple(
                f"{GENERATE.removesuffix('images')}{name} --skip-bad" for name in "ab"
            ),
            "medloom evaluate whatif whatif/manifest.csv --truth cohort --out": (COHORT, COHORT_RUN, COHORT_WHATIF),
            "medloom evaluate whatif whatif/manifest.csv --observed": (without("whatif"), TABLE_WHATIF),
            "medloom evaluate edits": (TRIPLES, EDITOR, EDITS),
            "medloom evaluate whatif whatif/manifest.csv --truth cohort --gate": (without("whatif"), COHORT_WHATIF),
        },
        names={"my_distance": my_distance},
        placeholders={"runs/c --data MANIFEST": "runs/c --data cohort/test.csv --skip-bad"},
        refused=dict.fromkeys(GATES, (0, 3)),
    ),
    "docs/ratings.md": Page(
        files=(files.write_study,),
        before={"medloom rate analyse": (rated_study,)},
        quick=True,
    ),
    "docs/studio.md": Page(quick=True),
    "docs/privacy.md": Page(first=(TEXT2IMAGE, GENERATE)),
}


def session_of(name: str, folder: Path) -> Session:
    """A folder with the files that a page names."""
    page = PAGES[name]
    files.write_tables(folder, page.modalities, page.empty_texts)
    for write in page.files:
        write(folder)
    if name == "docs/quickstart.md":
        rows = files.read_rows(folder / "mine.csv")
        files.write_table(folder / "mine.csv", rows, renamed={"Subject_ID": "Patient ID", "Image_Path": "File"})
    shown = [block.text for block in blocks(name) if block.language == "yaml"]
    for file, text in zip(page.yamls, shown, strict=True):
        if file:
            (folder / file).write_text(text, encoding="utf-8")
    return Session(folder, page.settings, page.placeholders, dict(page.names), page.refused)


def prepared(steps: tuple[Step | str, ...]) -> Step:
    def prepare(session: Session) -> None:
        for step in steps:
            session.shell(step) if isinstance(step, str) else step(session)

    return prepare


def numbered(block: int | str, page: Sequence[Block]) -> int:
    """The number of a block that is named by it, or by how its text begins."""
    (found,) = (own.number for own in page if own.number == block or own.text.startswith(str(block)))
    return found


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page, and what it prints as next steps."""
    page = PAGES[name]
    session = session_of(name, folder)
    monkeypatch.chdir(folder)
    prepared(page.first)(session)
    found = blocks(name)
    # An entry for a block that the page no longer has fails.
    before = {numbered(block, found): prepared(steps) for block, steps in page.before.items()}
    used = set(run_page(session, found, LEFT_OUT.get(name, {}), before))
    assert used == set(LEFT_OUT.get(name, {}))
    session.run_next_steps()
    assert session.ran


@pytest.fixture(autouse=True)
def known_metrics() -> Iterator[None]:
    """A page adds a metric, which other tests do not know."""
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.quick])
def test_quick_pages_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if not page.quick])
def test_slow_pages_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(name, tmp_path, monkeypatch)


def test_every_page_with_blocks_is_run() -> None:
    names = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
    with_blocks = {str(name) for name in names if any(block.language != "yaml" for block in blocks(str(name)))}
    assert with_blocks - {"docs/benchmarks.md"} == set(PAGES)
    assert set(LEFT_OUT) <= set(PAGES)
