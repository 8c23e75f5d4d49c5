"""A segment that ends early: cut off, with a gap for the rest, or whole, with a picture held."""

from collections.abc import Callable

import pytest

from benchmarks.capture.cuts import Bench
from benchmarks.origin.ending_early import N_SEGMENTS, SOURCES


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    made: dict[str, Bench] = {}

    def make(name: str) -> Bench:
        if name not in made:
            made[name] = Bench(SOURCES[name], tmp_path_factory.mktemp("source"))
        return made[name]

    return make


@pytest.mark.parametrize("dated", [True, False], ids=["dates", "no dates"])
@pytest.mark.parametrize(
    ("name", "n"),
    [
        pytest.param("without sound, B-pictures", 3, id="counts tell"),
        pytest.param("without sound, open GOP", 3, id="open GOP"),
        pytest.param("with sound, B-pictures", 3, id="sound"),
        pytest.param("with sound, open GOP", 0, id="sound, first segment"),
        pytest.param("counted anew", 1, id="no count, second segment"),
        pytest.param("counted anew, B-pictures", 0, id="no count, first segment"),
        pytest.param("fMP4", 3, id="fMP4"),
    ],
)
def test_what_is_missing_is_a_gap_behind_whichever_picture_a_segment_is_cut(
    name: str, n: int, dated: bool, bench: Callable[[str], Bench]
) -> None:
    made = bench(name)
    cuts = list(made.cuts(n, each_packet=False))
    found = [made.run({n: at}, dated=dated) for at in [*cuts[:5], *cuts[5::5]]]
    read = [outcome for outcome in found if outcome]
    assert len(read) >= 5
    assert max(outcome.missing_s for outcome in read) > 1
    assert [outcome.silent_s for outcome in read] == [0] * len(read)


@pytest.mark.parametrize(
    "name",
    [
        "held after twelve",
        "held after twelve, B-pictures",
        "held after twelve, counted anew",
        "held after twelve, with sound",
        "fMP4, held after twelve",
        "one picture, counted anew",
        "uneven",
        "uneven, B-pictures, counted anew",
    ],
)
def test_pictures_that_are_held_leave_no_gap(name: str, bench: Callable[[str], Bench]) -> None:
    outcome = bench(name).run({})
    assert outcome is not None
    assert outcome.false_s == 0
    assert outcome.fetches == N_SEGMENTS


def test_a_source_that_holds_pictures_at_times_has_one_gap(bench: Callable[[str], Bench]) -> None:
    outcome = bench("held at times, counted anew").run({})
    assert outcome is not None
    assert 0.9 < outcome.false_s < 1.3
    assert outcome.fetches == N_SEGMENTS + 1
