import csv
import json
import zlib
from collections import Counter

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow
from study_images import write_real, write_synthetic, write_volumes

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import HU
from medloom.data.images import read_provenance, write_image
from medloom.data.manifest import read_manifest
from medloom.feedback.reader_study.cases import study_images
from medloom.feedback.reader_study.schedule import schedule
from medloom.metrics import multi_reader_analysis
from medloom.recipes.commands import run_command


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def design(folder, **given):
    options = {"raters": ["anna,ben"], "cases": 0, "out": folder / "study", **given}
    return run_command("rate design", **options)


@pytest.fixture
def origin_study(tmp_path):
    synthetic, real = write_synthetic(tmp_path), write_real(tmp_path)
    return design(tmp_path, synthetic=synthetic, real=real, rubric="origin", cases=20, repeats=0.2)


def test_every_rater_reads_every_image_in_another_order(origin_study):
    key = {row["item"]: row for row in rows_of(origin_study / "key.csv")}
    assert Counter(row["source"] for row in key.values()) == {"synthetic": 10, "real": 10}
    assert {row["truth"] for row in key.values() if row["source"] == "real"} == {"0"}
    orders = []
    for rater in ("anna", "ben"):
        readings = rows_of(origin_study / "packages" / rater / "readings.csv")
        assert [int(row["place"]) for row in readings] == list(range(1, 25))
        first = [row["item"] for row in readings if row["repeat"] == "0"]
        assert sorted(first) == sorted(key) and {row["rater"] for row in readings} == {rater}
        orders.append(first)
    assert orders[0] != orders[1]


def test_repeats_are_apart(origin_study):
    for rater in ("anna", "ben"):
        items = [row["item"] for row in rows_of(origin_study / "packages" / rater / "readings.csv")]
        repeated = [row for row in rows_of(origin_study / "packages" / rater / "readings.csv") if row["repeat"] == "1"]
        assert len(repeated) == 4
        for row in repeated:
            assert int(row["place"]) - 1 - items.index(row["item"]) >= 20 // 3


def test_packages_are_blind(origin_study):
    key = {row["item"]: row for row in rows_of(origin_study / "key.csv")}
    package = origin_study / "packages" / "anna"
    assert {path.name for path in package.iterdir()} == {"readings.csv", "README.txt", "images"}
    for path in (package / "images").iterdir():
        assert path.stem in key and read_provenance(path) == {}
        content = path.read_bytes()
        assert chunks_of(content) == {"IHDR", "IDAT", "IEND"}
        for word in (b"SYNTHETIC", b"Doe", b"mine", b"medloom", b"patient"):
            assert word not in content
        with Pillow.open(path) as opened:
            assert (opened.mode, opened.size, opened.info) == ("L", (20, 24), {})
        original = origin_study / key[path.stem]["path"]
        assert (np.asarray(Pillow.open(path)) == np.asarray(Pillow.open(original))).all(), "the pixels are the same"
    words = (package / "readings.csv").read_text() + " ".join(path.name for path in package.rglob("*"))
    for word in ("synthetic", "real", "doe", "Normal", "Effusion", "c0", "r0"):
        assert word not in words
    readme = (package / "README.txt").read_text()
    assert (
        "FOR RESEARCH USE ONLY" in readme
        and "real and SYNTHETIC ones, mixed" in readme
        and 'medloom studio --rate readings.csv --raters "anna" --blind' in readme
    )


def chunks_of(content):
    names, place = set(), 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4])
        names.add(content[place + 4 : place + 8].decode())
        place += 12 + length
    return names


def test_names_of_images_tell_nothing(tmp_path):
    """Real images are as often in the first half of the names as in the second."""
    synthetic, real = (read_manifest(write(tmp_path)) for write in (write_synthetic, write_real))
    studies = [study_images(synthetic, real, 0, seed) for seed in range(100)]
    early = [sum(image.source == "real" for image in images[:12]) for images in studies]
    # By hypergeometric draws the mean is 6 and its standard error 0.13.
    assert 5.5 < np.mean(early) < 6.5 and np.std(early) > 0.5


def test_crossover_of_arms(tmp_path):
    manifest = read_manifest(write_synthetic(tmp_path, cases=12, arms=("old", "new")))
    images = study_images(manifest, None, 0, seed=0)
    readings = schedule(images, ["anna", "ben", "chris"], sessions=2, repeats=0, seed=0)
    starts = []
    for rater in ("anna", "ben", "chris"):
        own = [reading for reading in readings if reading.rater == rater]
        seen = {(reading.session, reading.image.case): reading.image.arm for reading in own}
        assert len(own) == 24 and len(seen) == 24, "each case once in a session"
        assert all(seen[1, f"c{case}"] != seen[2, f"c{case}"] for case in range(12)), "in the other arm"
        for session in (1, 2):
            counts = Counter(reading.image.arm for reading in own if reading.session == session)
            assert counts == {"old": 6, "new": 6}
        starts.append(tuple(seen[1, f"c{case}"] for case in range(12)))
    assert len(set(starts)) == 3, "which half begins with which arm is drawn for each rater"


def test_quality_study_with_arms_gives_texts_and_washout(tmp_path):
    synthetic = write_synthetic(tmp_path, cases=8, arms=("old", "new"))
    study = design(tmp_path, synthetic=synthetic, repeats=0, washout_days=21)
    readings = rows_of(study / "packages" / "ben" / "readings.csv")
    assert {row["session"]: row["not_before_days"] for row in readings} == {"1": "0", "2": "21"}
    assert all(row["text"].startswith("Effusion") and row["rubric"] == "quality" for row in readings)
    assert "All images in this folder are SYNTHETIC." in (study / "packages" / "ben" / "README.txt").read_text()
    described = json.loads((study / "design.json").read_text())
    assert (described["arms"], described["cases"], described["readings_per_rater"]) == (["new", "old"], 8, 16)
    # The reading list is a manifest.
    listed = read_manifest(study / "packages" / "ben" / "readings.csv", need_patients=False)
    assert len(listed) == 16


def test_the_same_design_again_is_the_same_and_another_is_refused(tmp_path):
    synthetic, real = write_synthetic(tmp_path), write_real(tmp_path)
    given = {"synthetic": synthetic, "real": real}
    study = design(tmp_path, **given)
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    assert {path: path.read_bytes() for path in design(tmp_path, **given).rglob("*") if path.is_file()} == before
    # One that was killed before its last package is completed.
    (study / "packages" / "ben" / "readings.csv").unlink()
    described = json.loads((study / "design.json").read_text())
    assert described["finished"] is True
    (study / "design.json").write_text(json.dumps({**described, "finished": False}))
    assert {path: path.read_bytes() for path in design(tmp_path, **given).rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="holds another study"):
        design(tmp_path, **given, seed=1)
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before


def test_volumes_have_no_names_and_no_position(tmp_path):
    synthetic = write_volumes(tmp_path, "made")
    real = write_volumes(tmp_path, "patients", synthetic=False)
    study = design(tmp_path, synthetic=synthetic, real=real, rubric="origin", repeats=0)
    for path in (study / "packages" / "anna" / "images").iterdir():
        header = nibabel.load(path).header
        assert bytes(header["descrip"]).strip(b"\0") == b"" and not header.extensions
        assert (header.get_best_affine() == np.diag([1, 1, 2, 1])).all() and header.get_data_dtype() == np.int16
        assert b"SYNTHETIC" not in zlib.decompress(path.read_bytes(), 31)


def test_hounsfield_units_need_a_window(tmp_path):
    rng, rows = np.random.default_rng(0), ["path,text,modality,patient_id"]
    for number in range(6):
        image = Image(rng.normal(0, 300, (1, 12, 12)).astype(np.float32), HU)
        write_image(tmp_path / f"{number}.dcm", image, {"model": "mine"})
        rows.append(f"{number}.dcm,Chest.,CT,p{number}")
    (tmp_path / "ct.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(UserError, match="the images are in HU; give --window LOW HIGH"):
        design(tmp_path, synthetic=tmp_path / "ct.csv")
    with pytest.raises(UserError, match="--window 400 -1000"):
        design(tmp_path, synthetic=tmp_path / "ct.csv", window=[400, -1000])
    assert not (tmp_path / "study").exists()
    study = design(tmp_path, synthetic=tmp_path / "ct.csv", window=[-1000, 400])
    with Pillow.open(next((study / "packages" / "anna" / "images").iterdir())) as opened:
        assert opened.mode == "L" and 120 < np.asarray(opened).mean() < 220


def test_sample_size(tmp_path, capsys):
    synthetic, real = write_synthetic(tmp_path, arms=("old", "new")), None
    study = design(tmp_path, synthetic=synthetic, real=real, power=0.8, difference=0.05)
    said = capsys.readouterr().err
    assert "Van Dyke" in said and "a power of 0.8 needs" in said and "readers  cases" in said
    table = json.loads((study / "design.json").read_text())["power"]
    powers = {row["readers"]: row["power"] for row in table["table"]}
    assert all(np.diff(own).min() >= 0 for own in powers.values()) and powers[12][-1] > powers[3][-1]


def test_sample_size_of_one_arm_is_for_an_area_of_one_half(tmp_path):
    study = design(tmp_path, synthetic=write_synthetic(tmp_path), real=write_real(tmp_path), power=0.8, difference=0.1)
    known = json.loads((study / "design.json").read_text())["power"]
    assert "from a fixed value" in known["of"] and "AUC of 0.5" in known["assumed"]
    # Of 45 ranks among 114, by hand: 115 / (12 x 45 x 69).
    assert known["components"]["error"] == pytest.approx(0.0030864, abs=1e-7)


def test_sample_size_of_a_pilot_and_of_equivalence(tmp_path):
    pilot = write_scores(tmp_path / "pilot.csv", *drawn_scores())
    synthetic = write_synthetic(tmp_path, arms=("old", "new"))
    study = design(tmp_path, synthetic=synthetic, power=0.8, margin=0.1, pilot=pilot)
    known = json.loads((study / "design.json").read_text())["power"]
    truth, values = drawn_scores()
    found = multi_reader_analysis(truth, values).components
    assert known["components"]["error"] == pytest.approx(found.error) and known["pilot_cases"] == 40
    assert "pilot.csv: 3 readers, 40 cases" in known["assumed"] and "equal within 0.1" in known["of"]


def drawn_scores(arms=2, readers=3, cases=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    shared = rng.normal(size=(1, 1, cases))
    values = truth * np.array([1.5, 1.0])[:arms, None, None] + shared + 0.7 * rng.normal(size=(arms, readers, cases))
    return truth, values.round(3)


def write_scores(path, truth, values, left_out=()):
    arms, readers, cases = values.shape
    lines = ["reader,arm,case,truth,score"]
    for place in np.ndindex(arms, readers, cases):
        if place not in left_out:
            arm, reader, case = place
            lines.append(f"r{reader},{'ab'[arm]},c{case:02d},{truth[case]},{values[place]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_analysis_of_two_arms(tmp_path, capsys):
    truth, values = drawn_scores()
    scores = write_scores(tmp_path / "scores.csv", truth, values)
    out = run_command("rate analyse", scores=scores, margin=0.3, out=tmp_path / "out", resamples=100)
    report = json.loads((out / "report.json").read_text())
    found = multi_reader_analysis(truth, values)
    (row,) = report["differences"]
    assert row["of"] == "a less b" and row["value"] == pytest.approx(found.comparisons[0].difference.value)
    assert row["facts"]["p"] == pytest.approx(found.p) and report["analysis"]["statistic"] == pytest.approx(
        found.statistic
    )
    assert row["facts"]["equivalence p"] == pytest.approx(found.comparisons[0].difference.equivalence_p(0.3))
    assert [own["value"] for own in report["by_reader"]["a"]] == pytest.approx(found.merits[0])
    assert "equivalent within 0.3" in report["sentence"] and report["sentence"] in capsys.readouterr().err
    page = (out / "report.html").read_text()
    assert "research use only" in page and page.count("data:image/png") == 2 and "http" not in page


def test_missing_scores_are_named_and_the_bootstrap_runs(tmp_path):
    truth, values = drawn_scores()
    scores = write_scores(tmp_path / "scores.csv", truth, values, left_out={(1, 2, 5), (1, 2, 6)})
    out = run_command("rate analyse", scores=scores, out=tmp_path / "out", resamples=100)
    report = json.loads((out / "report.json").read_text())
    assert report["notes"][0].startswith("r2 has no score of 2 of 40 cases in arm b (as c05)")
    assert "analysis" not in report and report["differences"][0]["facts"]["method"] == "bootstrap"


def test_an_empty_score_is_a_missing_one(tmp_path):
    scores = write_scores(tmp_path / "scores.csv", *drawn_scores())
    lines = scores.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ",nan"
    scores.write_text("\n".join(lines) + "\n")
    out = run_command("rate analyse", scores=scores, out=tmp_path / "out", resamples=100)
    assert "r0 has no score of 1 of 40 cases" in json.loads((out / "report.json").read_text())["notes"][0]


def rated(study, rater_seed=0, rubric="origin", lead=0.0):
    """Ratings of all packages of a study, of which some readers can tell."""
    key = {row["item"]: row for row in rows_of(study / "key.csv")}
    rng, lines = np.random.default_rng(rater_seed), ["rater,item,confidence,repeat,time,source"]
    for package in sorted((study / "packages").iterdir()):
        for row in rows_of(package / "readings.csv"):
            shift = lead * (key[row["item"]]["source"] == "synthetic")
            confidence = int(np.clip(round(3 + shift + rng.normal()), 1, 5))
            lines.append(f"{package.name},{row['item']},{confidence},{row['repeat']},2026-11-01T10:00:{row['place']},")
    return "\n".join(lines) + "\n"


def test_ratings_and_key(tmp_path, origin_study):
    ratings = tmp_path / "ratings.csv"
    ratings.write_text(rated(origin_study, lead=2.0))
    given = {"ratings": ratings, "key": origin_study / "key.csv", "resamples": 100}
    out = run_command("rate analyse", out=tmp_path / "telling", **given)
    report = json.loads((out / "report.json").read_text())
    (row,) = report["differences"]
    assert row["of"] == "AUC less 0.5" and row["low"] > 0 and row["facts"]["p"] < 0.05
    assert (report["cases"], report["positives"]) == (20, 10) and report["score"].startswith("confidence")
    ratings.write_text(rated(origin_study, lead=0.0))
    out = run_command("rate analyse", out=tmp_path / "not", margin=0.45, **given)
    row = json.loads((out / "report.json").read_text())["differences"][0]
    assert row["low"] < 0 < row["high"] and row["facts"]["equivalent"]


def test_agreement_of_a_blinded_study_needs_its_key(tmp_path, origin_study):
    (tmp_path / "ratings.csv").write_text(rated(origin_study, lead=2.0))
    given = {"ratings": tmp_path / "ratings.csv", "resamples": 20}
    report = json.loads((run_command("rate agreement", out=tmp_path / "blind", **given) / "report.json").read_text())
    assert "origin" not in report and "do not say which images are real" in report["notes"][0]
    given["key"] = origin_study / "key.csv"
    report = json.loads((run_command("rate agreement", out=tmp_path / "known", **given) / "report.json").read_text())
    assert report["origin"]["areas"][-1]["value"] > 0.7 and report["counts"]["repeats"] == 8
    (tmp_path / "ratings.csv").write_text("rater,item,confidence\nanna,i9,3\nben,i9,3\n")
    with pytest.raises(UserError, match="line 2 of the ratings: item 'i9' is not in"):
        run_command("rate agreement", out=tmp_path / "other", **given)


def test_real_images_are_in_every_arm(tmp_path):
    from medloom.feedback.reader_study.scores import scores_of_ratings

    synthetic, real = write_synthetic(tmp_path, cases=8, arms=("old", "new")), write_real(tmp_path, count=8)
    study = design(tmp_path, synthetic=synthetic, real=real, rubric="origin", repeats=0)
    (tmp_path / "ratings.csv").write_text(rated(study))
    scores = scores_of_ratings(tmp_path / "ratings.csv", None, study / "key.csv")
    assert scores.arms == ["new", "old"] and scores.values.shape == (2, 2, 16) and not scores.lacking
    same = scores.values[0] == scores.values[1]
    assert same[:, scores.truth == 0].all() and not same[:, scores.truth == 1].all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r1,a,c00,0", "r1,a,c00,2", "truth is '2'; allowed are 0 and 1"),
        ("r1,a,c00,0", "r1,a,c00,1", "case 'c00' has truth 1, and 0 in an earlier row"),
        ("r1,a,c01,1", "r1,a,c00,0", "r1 has a second score of case 'c00' in arm a"),
        ("r1,a,c00,0", ",a,c00,0", "no reader"),
        ("r1,a,c00,0", "R1,a,c00,0", "'R1' and 'r1' differ by capital letters or spaces only"),
        ("r1,a,c00,0", "r1,,c00,0", "no arm, and other rows have one"),
        ("reader,arm", "raeder,arm", "no column 'reader', did you mean 'raeder'"),
    ],
)
def test_bad_scores_are_named(tmp_path, old, new, message):
    scores = write_scores(tmp_path / "scores.csv", *drawn_scores())
    text = scores.read_text()
    assert old in text
    scores.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        run_command("rate analyse", scores=scores, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_studies_without_an_analysis_are_refused(tmp_path, origin_study):
    def refused(message, **given):
        with pytest.raises(UserError, match=message):
            run_command("rate analyse", out=tmp_path / "out", **given)
        assert not (tmp_path / "out").exists()

    truth, values = drawn_scores()
    refused("give --scores, a table of scores, or --ratings", seed=0)
    scores = write_scores(tmp_path / "scores.csv", truth, values)
    refused("--key belongs to --ratings", scores=scores, key=origin_study / "key.csv")
    refused("--ratings needs --key", ratings=scores)
    refused("--merit f1: allowed are", scores=scores, merit="f1")
    refused("merit accuracy needs a threshold", scores=scores, merit="accuracy")
    refused("--margin 0", scores=scores, margin=0)
    refused("0 positive and 40 negative", scores=write_scores(tmp_path / "none.csv", truth * 0, values))
    refused("one reader cannot stand for others", scores=write_scores(tmp_path / "one.csv", truth, values[:, :1]))
    (tmp_path / "words.csv").write_text("reader,case,truth,score\na,c,1,good\n")
    refused("line 2: score is 'good'", scores=tmp_path / "words.csv")
    (tmp_path / "other.csv").write_text("rater,item,confidence\nanna,i9999,3\nben,i9999,3\n")
    refused("item 'i9999' is not in", ratings=tmp_path / "other.csv", key=origin_study / "key.csv")
    refused("no column 'item'. It is not the key", ratings=tmp_path / "other.csv", key=scores)


def test_designs_that_cannot_be_are_refused(tmp_path):
    synthetic, real = write_synthetic(tmp_path), write_real(tmp_path)

    def refused(message, **given):
        with pytest.raises(UserError, match=message):
            design(tmp_path, **{"synthetic": synthetic, **given})
        assert not (tmp_path / "study").exists()

    refused("'anna' and 'Anna' differ by capital letters", raters=["anna,Anna"])
    refused("--raters names nobody", raters=[","])
    refused("--raters '../x'", raters=["../x"])
    refused("--cases 60 takes 30 synthetic and 30 real cases, and there are 12 and 12", real=real, cases=60)
    refused("--rubric origin asks whether images are real", rubric="origin")
    refused("--sessions 20 for 12 synthetic cases", sessions=20)
    refused("--repeats 0.5", repeats=0.5)
    refused("--difference, --margin and --pilot belong to --power", margin=0.1)
    refused("--power needs --difference", power=0.8)
    refused("a difference or margin of 0.7", power=0.8, margin=0.7)
    refused("real images of modality 'X-ray', which no synthetic", real=write_real(tmp_path, modality="X-ray"))
    refused("readers would know real images by their size", real=write_real(tmp_path, size=(30, 20)))
    lines = write_synthetic(tmp_path / "arms", arms=("a", "b")).read_text().splitlines()
    (tmp_path / "arms" / "gap.csv").write_text("\n".join(lines[:-1]) + "\n")
    refused("lacks case 'c11' in arm 'b'", synthetic=tmp_path / "arms" / "gap.csv")
    refused("a crossover has one session per arm", synthetic=tmp_path / "arms" / "synthetic.csv", sessions=3)
    for name, spacing in (("thick", 1.0), ("thin", 0.7)):
        write_volumes(tmp_path, name, spacing=spacing)
    with pytest.raises(UserError, match="volumes of spacings"):
        design(tmp_path, synthetic=tmp_path / "thick.csv", real=tmp_path / "thin.csv")
