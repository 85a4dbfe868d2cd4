"""The search by stages, its transforms, and its parts on disk give what the plain search gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medloom.core.errors import UserError
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition, Sample
from medloom.evaluation.copies import matches, search
from medloom.evaluation.copies.evidence import Unrelated
from medloom.evaluation.copies.matches import Matches, match
from medloom.evaluation.copies.parts import PARTS, match_parts
from medloom.evaluation.copies.planted import EDITS, edited
from medloom.evaluation.copies.search import Apart, References, laid_spectra
from medloom.evaluation.copies.spectra import FINE, SIZE, correlations, fine_spectra, half_weights, without_detail
from medloom.evaluation.images import copy_search
from medloom.evaluation.images.copy_pictures import halved
from medloom.evaluation.images.copy_search import CopySearch
from medloom.evaluation.images.kept_copies import KeptMatches
from medloom.evaluation.images.sets import ImageSet

COUNT, SOME = 60, np.arange(0, 60, 6)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """Pictures of one common shape and structures of their own."""
    rng = np.random.default_rng(0)
    common = gaussian_filter(rng.normal(0, 1, (128, 128)), 8)
    own = gaussian_filter(rng.normal(0, 1, (COUNT, 128, 128)), (0, 2.5, 2.5))
    return np.clip(0.5 + 2 * common + own, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def references(large: np.ndarray) -> References:
    return References(halved(large))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edit", ["inverted", "moved by 5 %", "cropped to 80 %", "rotated by 5 degrees"])
def test_the_screen_keeps_the_originals(
    edit: str, dtype: torch.dtype, large: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "KEPT", 14)
    monkeypatch.setattr(search, "screened_type", lambda: dtype)
    found = match(halved(edited(large[SOME], edit, 0)), References(halved(large)))
    assert found.rows.tolist() == SOME.tolist()


def test_what_is_apart_is_not_screened(references: References, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "KEPT", 14)
    found = match(references.images[SOME], references, Apart.named(SOME.tolist(), range(COUNT)))
    assert (found.rows != SOME).all() and found.cosines.max() < 0.9


def test_queries_do_not_depend_on_each_other_or_on_threads(
    references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = match(references.images[SOME], references)
    threads = torch.get_num_threads()
    monkeypatch.setattr(matches, "AT_ONCE", 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    counted: list[int] = []
    parts = match(references.images[SOME], references, advance=lambda count=1, note="": counted.append(count))
    monkeypatch.undo()
    torch.set_num_threads(threads)
    assert counted == [3, 3, 3, 1] and parts.rows.tolist() == whole.rows.tolist()
    assert np.allclose(parts.cosines, whole.cosines, atol=1e-4)


def test_correlations_are_those_of_the_inverse_transform(references: References) -> None:
    one, other = references.spectra[:3], references.spectra[3:6]
    reach = 4
    whole = torch.fft.irfft2(one * other.conj(), s=(FINE, FINE)) * FINE * FINE
    shifts = torch.arange(-reach, reach + 1) % FINE
    assert torch.allclose(correlations(one, other, reach), whole[:, shifts][:, :, shifts], atol=1e-5)


def test_few_pixels_show_the_same_spectra() -> None:
    rng = np.random.default_rng(1)
    images = torch.from_numpy(gaussian_filter(rng.normal(0, 1, (4, SIZE, SIZE)), (0, 1, 1))).float()
    few = laid_spectra(without_detail(images), torch.eye(2, 3).expand(4, 1, 2, 3))[:, 0]
    cosines = ((few * fine_spectra(images).conj()).real * half_weights()).sum((-1, -2))
    assert cosines.min() > 0.98


@pytest.fixture
def members(large: np.ndarray, tmp_path: Path) -> ImageSet:
    samples = []
    for row, image in enumerate(halved(large)[:40]):
        path = tmp_path / f"{row}.npy"
        np.save(path, image)
        samples.append(Sample(path, Condition(), f"p{row // 2}", row, row + 2))
    return ImageSet.of_patients(samples, "real")


@pytest.fixture
def searcher(members: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CopySearch:
    def read(some: ImageSet, spec: ImageSpec, unit: str | None, size: int = SIZE) -> np.ndarray:
        small = np.stack([np.load(sample.path) for sample in some.samples])[:, None]
        return np.repeat(np.repeat(small, size // SIZE, axis=2), size // SIZE, axis=3)

    monkeypatch.setattr(copy_search, "pictures", read)
    monkeypatch.setattr(copy_search, "TOGETHER", 16)
    return CopySearch(ImageSpec((SIZE, SIZE), 1, "pad", {}), None, tmp_path / "cache", 0, 8)


BY_PARTS = [Unrelated(0.0, 1.0, 0.3, 30)] * len(PARTS)
UNRELATED = [Unrelated(0.0, 1.0, 0.1, 30), *BY_PARTS]


def test_an_interrupted_search_resumes_behind_its_last_part(
    members: ImageSet, searcher: CopySearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def killed(*args: object) -> Matches:
        calls.append(len(args[0]))  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return match(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(copy_search, "match", killed)
    with pytest.raises(KeyboardInterrupt):
        searcher.among(members, members, UNRELATED)
    by_parts: list[int] = []

    def counted(*args: object) -> list[Matches]:
        by_parts.append(len(args[0]))  # type: ignore[arg-type]
        return match_parts(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(copy_search, "match_parts", counted)
    resumed = searcher.among(members, members, UNRELATED)
    assert by_parts == [16, 16, 8]
    searcher.among(members, members, UNRELATED)
    assert by_parts == [16, 16, 8]
    assert calls == [16, 16, 16, 8]
    whole = CopySearch(searcher.spec, None, tmp_path / "other", 0, 8).among(members, members, UNRELATED)
    assert resumed.rows.tolist() == whole.rows.tolist() and np.array_equal(resumed.scores, whole.scores)


def test_a_smaller_set_is_not_searched_again(
    members: ImageSet, searcher: CopySearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = members.rows(range(20), "training")
    whole = searcher.among(members, others, UNRELATED)
    monkeypatch.setattr(copy_search, "match", None)
    rows = [3, 30, 7]
    assert searcher.among(members.rows(rows), others, UNRELATED).rows.tolist() == whole.rows[rows].tolist()


def test_edited_copies_are_looked_for_once_in_the_same_images_with_the_same_seed(
    members: ImageSet, searcher: CopySearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        copy_search, "EDITS", {name: EDITS[name] for name in ("as it is", "blended with another image")}
    )
    first = searcher.planted(members, UNRELATED)
    assert {len(found) for found in first.values()} == {8} and first["as it is"].all()

    def refuse(*args: object, **options: object) -> Matches:
        raise AssertionError("searched again")

    monkeypatch.setattr(copy_search, "match", refuse)
    again = CopySearch(searcher.spec, None, searcher.cache, 0, 8)
    kept = again.planted(members, UNRELATED)
    assert kept.keys() == first.keys() and all(np.array_equal(kept[edit], own) for edit, own in first.items())
    others: list[Callable[[], object]] = [
        lambda: again.planted(members.rows(range(39)), UNRELATED),
        lambda: again.planted(members, [Unrelated(0.0, 1.0, 0.2, 30), *BY_PARTS]),
        lambda: CopySearch(searcher.spec, None, searcher.cache, 1, 8).planted(members, UNRELATED),
    ]
    for other in others:
        with pytest.raises(AssertionError, match="searched again"):
            other()
    (path,) = (searcher.cache / "planted").iterdir()
    path.write_text('{"as it is": [1, 0]}')
    with pytest.raises(UserError, match="is not a file of edited copies that were found; remove it"):
        again.planted(members, UNRELATED)


def test_images_of_one_file_are_copies_of_each_other(members: ImageSet, searcher: CopySearch) -> None:
    """Their matches are kept under the file's hash, but each one's is the other."""
    doubled = members.rows([*range(35), 4])
    found = searcher.among(doubled, doubled, UNRELATED)
    assert found.rows[[4, 35]].tolist() == [35, 4]


def test_a_part_that_was_not_finished_is_left_alone(tmp_path: Path) -> None:
    own = Matches(np.arange(2), np.ones(2), np.ones(2), np.zeros((2, 2, 3)), np.zeros(2, bool))
    KeptMatches(tmp_path).keep(["a", "b"], [own])
    (tmp_path / ".0a-01234567.partial.npz").write_bytes(b"half")
    kept = KeptMatches(tmp_path)
    assert kept.lacking(["a", "c", "b"]).tolist() == [1] and kept.of(["b"])[0].rows.tolist() == [1]


def test_an_image_that_is_there_twice_is_an_original_twice(large: np.ndarray) -> None:
    references = References(halved(np.concatenate([large[:20], edited(large[4:5], "JPEG of quality 30", 0)])))
    assert np.flatnonzero(references.alike(4)).tolist() == [4, 20] and np.flatnonzero(references.alike(5)).tolist() == [
        5
    ]


def test_an_image_is_never_its_own_copy_however_few_there_are() -> None:
    pictures = np.random.default_rng(0).random((5, SIZE, SIZE)).astype(np.float32)
    found = match(pictures, References(pictures), Apart(np.arange(5), np.arange(5)))
    assert (found.rows != np.arange(5)).all() and found.cosines.max() < 0.9


def test_a_listed_part_is_named_and_a_listed_whole_is_not_explained_by_one(
    members: ImageSet, searcher: CopySearch, tmp_path: Path
) -> None:
    rows, samples = (8, 20, 30, 38), []
    first, *others = (np.load(members.samples[row].path) for row in rows)
    joined, middle = first.copy(), SIZE // 2
    for own, other in zip(((0, middle), (middle, 0), (middle, middle)), others, strict=True):
        part = tuple(slice(start, start + middle) for start in own)
        joined[part] = other[part]
    for name, picture in (("joined", joined), ("copied", first)):
        np.save(tmp_path / f"{name}.npy", picture)
        samples.append(Sample(tmp_path / f"{name}.npy", Condition(), name, 0, 2))
    made = ImageSet.of_patients(samples, "synthetic")
    found = searcher.among(made, members, UNRELATED)
    assert found.listed[1] and found.rows[1] == 8 and not found.how[1].startswith("its ")
    by_parts = searcher.among(made, members, [Unrelated(0.0, 1.0, 10.0, 30), *[Unrelated(0.0, 1.0, 0.1, 30)] * 8])
    assert by_parts.listed.all() and by_parts.rows[0] in rows
    assert by_parts.how[0] in {f"its {name}" for name in PARTS} and by_parts.cosines[0] <= 0.5
    assert len(searcher.unrelated(members)) == 1 + len(PARTS)
