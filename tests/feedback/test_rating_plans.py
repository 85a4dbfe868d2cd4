"""Who is shown what in which order: hidden real images, hidden repeats, pairs, practice, reading lists."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rating_series import begun, plan_options, write_images

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.feedback.ratings.entries import REAL, SYNTHETIC
from medloom.feedback.ratings.images import items_of, read_images
from medloom.feedback.ratings.plan import Pool, plans_of, pool_of, with_repeats
from medloom.feedback.ratings.rubric import QUALITY, level_of
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore


def opened(paths: list[Path], real: Path | None = None) -> Pool:
    return pool_of([read_images(path) for path in paths], None if real is None else read_images(real))


def test_levels_are_minims() -> None:
    levels = {(realism, match): level_of(realism, match) for realism in (1, 2, 3) for match in (1, 2, 3)}
    assert levels == {
        (1, 1): 1, (1, 2): 1, (1, 3): 1,
        (2, 1): 2, (2, 2): 2, (2, 3): 3,
        (3, 1): 2, (3, 2): 2, (3, 3): 3,
    }  # fmt: skip
    assert [item.name for item in QUALITY.items] == ["realism", "match"]
    assert list(QUALITY.flags) == ["anatomy", "mismatch", "artefact"]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 10, 11, 30, 101])
@pytest.mark.parametrize("seed", range(4))
def test_repeats_are_a_third_of_the_series_apart(size: int, seed: int) -> None:
    order = [f"i{number}" for number in range(size)]
    for repeats in {0, 1, size // 10, size // 2, size}:
        series = with_repeats(order, repeats, numpy_generator("test", seed, repeats))
        first = {each.item: place for place, each in enumerate(series) if not each.repeat}
        again = {each.item: place for place, each in enumerate(series) if each.repeat}
        assert [each.item for each in series if not each.repeat] == order
        assert len(again) == repeats and len(series) == size + repeats
        assert all(3 * (place - first[item]) >= len(series) for item, place in again.items())


def test_a_blind_series_is_shuffled_for_each_rater(tmp_path: Path) -> None:
    _, (anna, ben) = begun(tmp_path, 30, repeats=0.1)
    orders = [[each.item for each in session.presentations] for session in (anna, ben)]
    data = items_of(read_images(tmp_path / "images" / "manifest.csv"), None)
    assert len(orders[0]) == 33 and orders[0] != orders[1] and set(orders[0]) == {item.name for item in data}
    assert [name for name in orders[0] if orders[0].count(name) == 1] != sorted(set(orders[0]))
    # Without it, in the order of the table.
    _, sessions = begun(tmp_path / "images", 3, ("carl",), blind=False)
    own = items_of(read_images(tmp_path / "images" / "images" / "manifest.csv"), None)
    assert [each.item for each in sessions[0].presentations] == [item.name for item in own]


def test_real_images_are_a_fraction_of_all_and_of_the_same_modality(tmp_path: Path) -> None:
    rated = write_images(tmp_path / "rated", 16)
    real = write_images(tmp_path / "real", 10, 1)
    other = write_images(tmp_path / "other", 10, 2, "MRI")
    pool = opened([rated], real)
    (plan,) = plans_of(pool, ["anna"], plan_options(real_fraction=0.2))
    sources = {item.name: item.source for item in pool.items}
    assert Counter(sources[each.item] for each in plan.presentations) == {SYNTHETIC: 16, REAL: 4}
    # All raters see the same real images.
    plans = plans_of(pool, ["anna", "ben"], plan_options())
    assert len({frozenset(each.item for each in own.presentations) for own in plans}) == 1
    (most,) = plans_of(pool, ["anna"], plan_options(real_fraction=0.5))
    assert Counter(sources[each.item] for each in most.presentations) == {SYNTHETIC: 16, REAL: 10}
    with pytest.raises(UserError, match="none of its 10 images is of a modality that is rated"):
        plans_of(opened([rated], other), ["anna"], plan_options())
    with pytest.raises(UserError, match="also rated as synthetic"):
        opened([rated], rated)


def test_where_an_image_is_from_is_said_by_the_user_the_table_or_the_file(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", 4)
    mark = PngInfo()
    mark.add_text("SYNTHETIC", "YES")
    Image.open(tmp_path / "images" / "1.png").save(tmp_path / "images" / "1.png", pnginfo=mark)
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines[:3], lines[3].replace("a site", "real"), lines[4]]) + "\n")
    assert [item.source for item in items_of(read_images(data), None)] == ["", SYNTHETIC, REAL, ""]
    assert [item.source for item in items_of(read_images(data), SYNTHETIC)] == [SYNTHETIC] * 4


def test_practice_images_are_not_rated_afterwards(tmp_path: Path) -> None:
    pool = opened([write_images(tmp_path / "rated", 12)], write_images(tmp_path / "real", 9, 1))
    practice, series, *_ = plans_of(pool, ["anna", "ben"], plan_options(practice=6))
    sources = {item.name: item.source for item in pool.items}
    assert (practice.mode, practice.rubric, practice.number) == ("practice", "origin", -1)
    assert Counter(sources[each.item] for each in practice.presentations) == {SYNTHETIC: 3, REAL: 3}
    rated = {each.item for each in series.presentations}
    assert not rated & {each.item for each in practice.presentations} and len(rated) == 9 + 2
    for practised in (24, 19):
        with pytest.raises(UserError, match="--practice"):
            plans_of(pool, ["anna"], plan_options(practice=practised))


def test_pairs_of_one_prompt(tmp_path: Path) -> None:
    pool = opened([write_images(tmp_path / "one", 10, 0, prompts=4)], None)
    (plan,) = plans_of(pool, ["anna"], plan_options(pairs=True))
    texts = {item.name: item.text for item in pool.items}
    # Ten images of four prompts: 3, 3, 2 and 2 of each.
    assert plan.rubric == "pairs" and len(plan.presentations) == 4
    assert all(texts[each.item] == texts[each.other] and each.item != each.other for each in plan.presentations)
    with pytest.raises(UserError, match="no prompt has two images"):
        plans_of(opened([write_images(tmp_path / "few", 3)], None), ["anna"], plan_options(pairs=True))


def test_pairs_of_two_models(tmp_path: Path) -> None:
    one, two = write_images(tmp_path / "one", 12, 0), write_images(tmp_path / "two", 12, 1)
    two.write_text(two.read_text().replace("of two", "of one"))
    pool = opened([one, two], None)
    (plan,) = plans_of(pool, ["anna"], plan_options(pairs=True))
    first = {item.name for item in pool.sets[0]}
    # Each model stands on each side as often.
    assert [each.item in first for each in plan.presentations].count(True) == 6
    assert all((each.item in first) != (each.other in first) for each in plan.presentations)
    with pytest.raises(UserError, match="one or two manifests"):
        plans_of(opened([one, two, write_images(tmp_path / "c", 2, 3)], None), ["a"], plan_options(pairs=True))


def written(folder: Path, *rows: str, head: str = "path,rater,session,place,item,repeat,not_before_days") -> Path:
    if not (folder / "images").exists():
        write_images(folder / "images", 4)
    (folder / "list.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder / "list.csv"


def test_a_reading_list_is_followed(tmp_path: Path) -> None:
    rows = ["images/0.png,anna,1,2,a,0,", "images/1.png,anna,1,1,b,0,", "images/0.png,anna,1,3,a,1,"]
    rows += ["images/2.png,anna,2,1,c,,14", "images/0.png,ben,1,1,a,,"]
    store = RatingStore(tmp_path / "ratings.db")
    raters = begin_series(store, (), [written(tmp_path, *rows)], plan_options())
    assert [rater.name for rater in raters] == ["anna", "ben"]
    first, second, ben = store.sessions()
    assert [(each.item, each.repeat) for each in first.presentations] == [("b", 0), ("a", 0), ("a", 1)]
    assert (second.number, second.wait_days, first.wait_days) == (2, 14.0, 0.0)
    assert [each.item for each in ben.presentations] == ["a"]
    # Where a row is shown is no property of its image.
    assert store.item("a").cells == {} and store.item("a").path == tmp_path / "images" / "0.png"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("images/0.png,anna,1,1,z,0,", "place 1 of session 1 of anna stands in another line"),
        ("images/0.png,anna,one,2,z,0,", "session 'one' is no whole number"),
        ("images/0.png,anna,0,2,z,0,", "session '0' is no whole number of at least 1"),
        ("images/0.png,anna,1,,z,0,", "line 3: no place"),
        ("images/0.png,,1,2,z,0,", "line 3: no rater"),
        ("images/0.png,anna,1,2,a,0,", "'a' stands for two images"),
        ("images/0.png,anna,1,2,z,0,7", "one rubric and one not_before_days"),
        ("images/0.png,anna,2,2,z,0,soon", "no number of days"),
        ("images/0.png,anna,2,2,z,0,-1", "not_before_days -1"),
        ("images/0.png,Anna,1,2,z,0,", "differ only by case or spaces"),
    ],
)
def test_a_faulty_reading_list(tmp_path: Path, row: str, said: str) -> None:
    path = written(tmp_path, "images/1.png,anna,1,1,a,0,", row)
    with pytest.raises(UserError, match=said):
        begin_series(RatingStore(tmp_path / "ratings.db"), (), [path], plan_options())


def test_what_a_reading_list_does_not_take(tmp_path: Path) -> None:
    path = written(tmp_path, "images/1.png,anna,1,1,a,0,")
    store = RatingStore(tmp_path / "ratings.db")
    with pytest.raises(UserError, match="--raters ben: .* it names anna"):
        begin_series(store, ("ben",), [path], plan_options())
    for changed in ({"pairs": True}, {"repeats": 0.1}, {"practice": 2}):
        with pytest.raises(UserError, match="is a reading list, which says itself"):
            begin_series(store, (), [path], plan_options(**changed))
    origin = written(tmp_path, "images/1.png,anna,1,1,a,origin", head="path,rater,session,place,item,rubric")
    with pytest.raises(UserError, match="origin asks what is said where images are not blinded"):
        begin_series(store, (), [origin], plan_options(blind=False))
    pairs = written(tmp_path, "images/1.png,anna,1,1,a,pairs", head="path,rater,session,place,item,rubric")
    with pytest.raises(UserError, match="shows single images"):
        begin_series(store, (), [pairs], plan_options())


def test_one_image_of_two_tables_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_images(tmp_path / "one", 4)
    pool = opened([one, one], None)
    assert [len(own) for own in pool.sets] == [4, 0]
    assert "4 images are in another manifest too" in capsys.readouterr().err


def test_series_without_images_or_raters(tmp_path: Path) -> None:
    store = RatingStore(tmp_path / "ratings.db")
    with pytest.raises(UserError, match="--raters names who rates"):
        begin_series(store, (), [write_images(tmp_path / "one", 2)], plan_options())
    with pytest.raises(UserError, match="does not exist"):
        begin_series(store, ("anna",), [tmp_path / "none.csv"], plan_options())
    assert store.raters() == []
