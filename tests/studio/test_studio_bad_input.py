"""What users get wrong, and what goes away while the studio is served: each has a sentence, and the pages stay."""

import html
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import nibabel
import numpy as np
import pytest
from conftest import TINY, medloom
from PIL import Image as Pillow
from studio_client import Browser, name_of, sentences
from studio_server import editor, model, table, triples

from medloom.data.manifest import read_manifest
from medloom.phantom.causal import OBSERVED
from medloom.recipes.commands import run_command
from medloom.studio.results.truth import case_of, described_case
from medloom.studio.store.database import FILE

PAGES = ("/", "/generate", "/edit", "/whatif", "/cases", "/runs", "/history", "/about")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of prior volumes, instructions and later volumes."""
    folder = tmp_path_factory.mktemp("volumes")
    lines = ["path,prior,instruction,Text,modality,patient_id"]
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 60, (8, 8, 8)).astype(np.int16)
        for name in ("prior", "later"):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{name}{number}.nii.gz")
            values[2:5, 2:5, 2:5] = 250
        lines.append(f"later{number}.nii.gz,prior{number}.nii.gz,A spot has appeared.,A report.,MRI,p{number}")
    (folder / "volumes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "volumes.csv"


@pytest.fixture(scope="module")
def browser(
    model: Path,
    editor: Path,
    table: Path,
    triples: Path,
    volumes: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Browser:
    of_volumes = volumes.parent / "volume-editor"
    run_command("train edit", data=volumes, out=of_volumes, **{**TINY, "image_size": [8, 8, 8], "loop.steps": 2})
    folder = tmp_path_factory.mktemp("bad") / "studio"
    return Browser(folder, (model, editor, of_volumes), manifests=(table, triples, volumes))


def edit_form(**changed: str) -> dict[str, str]:
    own = {"model": "editor", "text": "A spot has appeared.", "prior": "row:triples.csv:2", "region": "everywhere"}
    return {**own, "n": "1", "steps": "2", **changed}


def generate_form(**changed: str) -> dict[str, str]:
    own = {"modality": "Disc", "text": "A disc.", "column.age": "40", "column.smoking": "never", "steps": "2"}
    return {"model": "run", **own, "mask": "row:manifest.csv:2", "n": "1", **changed}


def test_images_with_other_axes_than_the_model(browser: Browser, triples: Path, volumes: Path) -> None:
    volume = name_of(browser.bring("v.nii.gz", (volumes.parent / "later0.nii.gz").read_bytes()))
    flat = name_of(browser.bring("x.png", (triples.parent / "later1.png").read_bytes()))
    region = name_of(browser.bring("m.nii.gz", (volumes.parent / "later0.nii.gz").read_bytes(), "mask"))
    of_volumes = "This is an image of 8 x 8 x 8, and the model has 2-D images: choose another image or model."
    of_planes = "This is an image of 16 x 16, and the model has volumes: choose another image or model."
    asked = [
        ("/edit", edit_form(prior=volume), of_volumes),
        ("/edit", edit_form(prior="row:volumes.csv:2"), of_volumes),
        ("/edit", edit_form(region="brush", drawn=region), of_volumes),
        ("/edit", edit_form(model="volume-editor", prior=flat), of_planes),
        ("/edit", edit_form(model="volume-editor", prior="row:triples.csv:2"), of_planes),
        ("/generate", generate_form(mask=region), of_volumes),
    ]
    for address, form, said in asked:
        answer = browser.post(address, data=form)
        assert (answer.status_code, sentences(answer)) == (422, said)
    assert browser.run() == []
    # With as many axes both are edited.
    assert browser.post("/edit", data=edit_form(prior=flat)).status_code == 200
    assert browser.post("/edit", data=edit_form(model="volume-editor", prior=volume)).status_code == 200
    assert {job.state: job.message for job in browser.run()}.keys() == {"done"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": " "}, "Say what the images should show: every training image had a text."),
        ({"column.age": "400"}, "age is '400'; give a number from"),
        ({"column.age": "nan"}, "age is 'nan'; give a number from"),
        ({"column.smoking": "often"}, "smoking 'often' is not known. Known: current, never."),
        ({"column.age": ""}, "Give age: every training image had a value."),
        ({"mask": ""}, "Pick a mask or bring one: every training image had a mask."),
        ({"n": "65"}, "The number of images is '65'; give a whole number from 1 to 64."),
        ({"text": "x" * 10_001}, "The text has 10001 characters; at most 10000 are read."),
        ({"modality": "CT"}, "The modality 'CT' is not known"),
    ],
)
def test_forms_that_cannot_be_asked(browser: Browser, changed: dict[str, str], said: str) -> None:
    answer = browser.post("/generate", data=generate_form(**changed))
    assert answer.status_code == 422 and said in sentences(answer)
    assert browser.run() == []


def test_changes_out_of_range(browser: Browser) -> None:
    form = {"model": "run", "case": "row:manifest.csv:2", "n": "1", "steps": "2"}
    answer = browser.post("/whatif", data={**form, "set.age": "500"})
    assert answer.status_code == 422 and "age is '500'; give a number from" in sentences(answer)
    # A change that was noted before is as the browser says; what it asks for is said by the job.
    assert browser.post("/whatif", data={**form, "arm": "age=70"}).status_code == 200
    (job,) = browser.run()
    assert job.state == "failed" and "training has not seen age=70" in job.message
    assert "training has not seen age=70" in browser.get(f"/jobs/{job.id}").text


@contextmanager
def away(path: Path) -> Iterator[None]:
    """Without a file or a folder within the block."""
    aside = path.with_name(f"{path.name}-aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def test_a_run_that_disappears(browser: Browser, model: Path, editor: Path) -> None:
    assert browser.post("/generate", data=generate_form()).status_code == 200
    assert browser.post("/edit", data=edit_form()).status_code == 200
    with away(model), away(editor):
        for address in (*PAGES, "/runs?run=run", "/runs/0/samples/x.png"):
            assert browser.get(address).status_code in (200, 303, 404), address
        for page, name in {"generate": "run", "whatif": "run", "edit": "editor"}.items():
            for address in (f"/{page}?model={name}", f"/{page}/form?model={name}"):
                answer = browser.get(address)
                assert f"{name} is not a folder; give a run folder" in sentences(answer)
                # Nor does the page say that it is being read.
                assert "Reading the model" not in answer.text
        assert "cannot be read" in browser.get("/runs").text
        for address, form in (("/generate", generate_form()), ("/edit", edit_form())):
            answer = browser.post(address, data=form)
            assert answer.status_code == 422 and "is not a folder" in sentences(answer)
        for job in browser.run():
            assert job.state == "failed" and "is not a folder; give a run folder" in job.message
            assert "is not a folder" in sentences(browser.get(f"/jobs/{job.id}"))
    assert browser.post("/generate", data=generate_form()).status_code == 200
    assert [job.state for job in browser.run()] == ["done"]


def test_a_page_of_an_editor_that_disappeared(editor: Path, tmp_path: Path) -> None:
    """Where it is the only one, the page says why, and not that the studio has none."""
    browser = Browser(tmp_path / "studio", (editor,))
    with away(editor):
        assert "editor is not a folder" in sentences(browser.get("/edit"))
    assert "Instruction" in browser.get("/edit").text


def test_a_table_that_disappears(browser: Browser, table: Path) -> None:
    with away(table):
        for address in PAGES:
            assert browser.get(address).status_code in (200, 303, 404), address
        said = "The table manifest.csv cannot be read (No such file or directory): put it back, or choose another one."
        for address in ("/cases", "/cases/0/2/read", "/cases/0/2/image/facts"):
            answer = browser.get(address)
            assert (answer.status_code, sentences(answer)) == (404, said)
        answer = browser.post("/generate", data=generate_form())
        assert answer.status_code == 422 and "cannot be read" in sentences(answer)
    with away(table.parent / "0.png"):
        answer = browser.get("/cases/0/2/image/picture.png")
        assert answer.status_code == 404 and sentences(answer) == "The file of this image is not there any more."
    assert browser.get("/cases/0/2/image/picture.png").status_code == 200


def test_results_that_disappear(browser: Browser) -> None:
    job = name_of(browser.post("/generate", data=generate_form()))
    assert [job.state for job in browser.run()] == ["done"]
    shutil.rmtree(browser.studio.store.results(job))
    for address in ("", "/read", "/download", "/images/0", "/images/0/facts", "/files/000000.png", "/events"):
        answer = browser.get(f"/jobs/{job}{address}")
        assert answer.status_code == (200 if address in ("", "/events") else 404), address


def studio(*words: object) -> int:
    return medloom(["studio", "--no-open", "--port=0", "--device=cpu", *words])


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert studio(f"--out={tmp_path / 'studio'}", f"--port={port}") == 2
    said = capsys.readouterr().err
    assert (
        f"--port {port} cannot be used (Address already in use): give another --port, or 0 for any that is free" in said
    )
    assert not list((tmp_path / "studio").glob("*.lock"))


def test_a_store_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "studio"
    browser = Browser(folder)
    name_of(browser.post("/demo"))
    jobs = folder / FILE
    browser.studio.store.jobs._database._connection.execute("pragma wal_checkpoint(truncate)")
    whole = jobs.read_bytes()
    # In the middle, while it is served.
    jobs.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    other = Browser(folder)
    answer = other.get("/history")
    assert (
        answer.status_code == 503 and "is damaged or no job store; put it back, or name another folder" in answer.text
    )
    # At its beginning, at the start.
    for content in (b"no database at all" * 300, b"\xff" * len(whole)):
        for leftover in folder.glob(f"{FILE}-*"):
            leftover.unlink()
        jobs.write_bytes(content)
        assert studio(f"--out={folder}") == 2
        assert f"{FILE} is damaged or no job store; put it back" in capsys.readouterr().err
        assert jobs.read_bytes() == content
    jobs.write_bytes(whole)
    assert [job.command for job in Browser(folder).studio.store.jobs.of("local")] == ["demo"]


def test_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert studio(f"--out={tmp_path}") == 2
    assert "holds no studio but something else; name a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_job_that_runs_is_shown_when_its_user_comes_back(browser: Browser) -> None:
    job = name_of(browser.post("/generate", data=generate_form()))
    page = browser.get("/generate").text
    assert f'id="job-{job}"' in page and "A disc" in page
    assert f'id="job-{job}"' not in browser.get("/edit").text
    browser.run()
    assert f'id="job-{job}"' not in browser.get("/generate").text


def reversed_rows(table: Path) -> None:
    """The rows of a table in the opposite order."""
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *reversed(lines)]) + "\n")


@pytest.fixture
def copied(table: Path, tmp_path: Path) -> Path:
    """A copy of the table of images, which may change."""
    shutil.copytree(table.parent, tmp_path / "copied")
    return tmp_path / "copied" / table.name


def value_of(page: str, field: str, number: int) -> str:
    """The value of a choice of a form."""
    return re.findall(rf'name="{field}"[^>]*value="(row:[^"]+)"', page)[number]


def test_another_row_is_not_taken_for_the_one_that_was_chosen(model: Path, copied: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio", (model,), manifests=(copied,))
    mask = value_of(browser.get("/generate").text, "mask", 3)
    case = value_of(browser.get("/whatif").text, "case", 3)
    job = name_of(browser.post("/generate", data=generate_form(mask=mask)))
    changed = {"set.smoking": "never", "was.smoking": "current"}
    asked = name_of(browser.post("/whatif", data={"model": "run", "case": case, "n": "1", "steps": "2", **changed}))
    reversed_rows(copied)
    assert "The mask is gone, or its row is another one now" in sentences(browser.get(f"/generate?job={job}"))
    assert "The case is gone, is another one now" in sentences(browser.get(f"/whatif?job={asked}"))
    said = "is another one than it was, because the table has changed: choose again, or put the table back."
    answer = browser.post("/generate", data=generate_form(mask=mask))
    assert answer.status_code == 422 and said in sentences(answer)
    answer = browser.post("/whatif", data={"model": "run", "case": case, "n": "1", **changed})
    assert answer.status_code == 422 and said in sentences(answer)
    reversed_rows(copied)
    assert sentences(browser.get(f"/generate?job={job}")).startswith("<!doctype")


def test_a_reading_shows_the_rows_that_it_was_begun_with(model: Path, copied: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio", (model,), manifests=(copied,))
    form = {"table": copied.name, "n": "4", "question": "Which side?", "choices": "left, right"}
    first = browser.post("/readings", data=form).headers["HX-Redirect"]
    before = browser.get(f"{first}/0/pixels")
    assert before.status_code == 200
    reversed_rows(copied)
    for address in (f"{first}/0", f"{first}/0/pixels"):
        answer = browser.get(address)
        assert answer.status_code == 404 and "is another one than it was" in sentences(answer)
    reversed_rows(copied)
    assert browser.get(f"{first}/0/pixels").content == before.content


def test_a_mask_with_labels_that_the_model_does_not_know(browser: Browser, table: Path, tmp_path: Path) -> None:
    page = browser.get("/generate?model=run").text
    assert "a label map (1)" in page
    labels = np.asarray(Pillow.open(table.parent / "m0.png")) * 3
    Pillow.fromarray(labels.astype(np.uint8)).save(tmp_path / "m.png")
    mask = name_of(browser.bring("m.png", (tmp_path / "m.png").read_bytes(), "mask"))
    answer = browser.post("/generate", data=generate_form(mask=mask))
    assert answer.status_code == 422
    assert sentences(answer) == "This mask has the label 3, and the model knows 1."


def test_numbers_that_training_has_not_seen_are_marked(browser: Browser) -> None:
    answer = browser.post("/generate", data=generate_form(beyond="on", **{"column.age": "400"}))
    assert answer.status_code == 200
    assert [job.state for job in browser.run()] == ["done"]
    page = browser.get(f"/jobs/{name_of(answer)}").text
    assert "Extrapolated: training has seen nothing like age=400." in page
    assert "Extrapolated" not in browser.get(f"/jobs/{name_of(browser.post('/generate', data=generate_form()))}").text
    browser.run()


def test_a_table_without_a_template_has_no_worded_columns(browser: Browser) -> None:
    """What a what-if cannot do is not offered, and a link that asks for it says so."""
    page = browser.get("/whatif?model=run&set.height=180&was.height=170").text
    assert "set.smoking" in page and "set.height" not in page
    assert "run was not given height" in page


def test_a_model_is_asked_for_all_that_follows(tmp_path: Path) -> None:
    """The total effect is that of the change and of what follows from it; the direct one that of the change alone."""
    run_command("data phantom", out=tmp_path / "cohort", patients=12, size=16, complete=True)
    table = tmp_path / "cohort" / "train.csv"
    browser = Browser(tmp_path / "studio", (), manifests=(table,))
    followed = False
    for number, sample in enumerate(read_manifest(table, need=()).samples()[:6]):
        chosen = value_of(browser.get("/phantom").text, "case", number)
        case = case_of(described_case(table, sample.path))
        assert case is not None
        before, after = case.values({"age": 80.0})
        different = {name for name in OBSERVED if after[name] != before[name]}
        for effect, wanted in {"total": different, "direct": {"age"}}.items():
            page = browser.get("/phantom", params={"case": chosen, "set.age": "80", "effect": effect}).text
            link = dict(
                parse_qsl(html.unescape(re.findall(r'href="/whatif\?([^"]+)"', page)[0]), keep_blank_values=True)
            )
            assert {name.removeprefix("set.") for name in link if name.startswith("set.")} == wanted
            assert link["case"] == chosen and link["was.age"] == f"{before['age']:g}"
        followed = followed or len(different) > 1
    assert followed, "no patient in whom something follows"


def test_a_case_says_its_row_and_the_columns_that_models_know(browser: Browser) -> None:
    page = browser.get("/cases/0/2/read").text
    assert "manifest.csv, row 2" in page
    shown = re.findall(r'<tr><th scope="row">(\w+)</th><td>(\w+)</td></tr>', page)
    # Nobody's model is conditioned on the label.
    assert shown == [("age", "30"), ("smoking", "never")]
