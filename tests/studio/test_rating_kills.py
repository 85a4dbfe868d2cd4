"""A studio of ratings that is killed while raters rate; benchmarks/rating_kills.py does it with 10,000 ratings."""

from pathlib import Path

from benchmarks.rating_kills import rate_and_kill


def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    found = rate_and_kill(tmp_path, raters=6, ratings=10, kills=2)
    assert (found.kills, len(found.sent)) == (2, 60) and found.retries > 0
    assert found.errors == 0 and found.acknowledged == found.sent == set(found.kept)
    assert (found.lost, found.doubled, found.places) == (0, 0, 60)
