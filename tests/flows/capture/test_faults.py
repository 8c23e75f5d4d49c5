"""Each fault of a live source, for both engines: every loss is a gap with its reason.

Half-second segments, and faults a quarter as long as in `make faults`; several in
parallel.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.capture.contenders import InProcess
from benchmarks.capture.soak import make_plan, soak
from benchmarks.capture.trial import Outcome, run_trial
from benchmarks.origin.scenarios import SCENARIOS, Scenario
from benchmarks.origin.testcard import make_testcard
from flows.capture.segment import DiskFull
from flows.capture.supervisor import recorder
from flows.demo.channel import LiveOrigin

SCALE = 0.25
SEGMENT_S = 2.0 * SCALE
LONG_S = 2.0
"""The few frames left of half a second do not show what is missing."""

NEED_LONG = ("a segment cut short",)
PATIENCE_S = 60.0
AT_ONCE = 8
DISK_BYTES = 16 << 20
ENGINES = ("hls", "ffmpeg")

Trials = dict[tuple[str, str], Future[Outcome]]


@pytest.fixture(scope="session")
def show(long_card: dict[str, Path]) -> dict[str, Path]:
    return long_card


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.1)


@pytest.fixture(scope="session")
def long_show(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("long")
    return make_testcard(directory, duration_s=90.0, segment_s=LONG_S, fps=12, variants=())


def on_air(show: dict[str, Path], segment_s: float = SEGMENT_S) -> LiveOrigin:
    """The test card, on air for four segments; thirty are listed."""
    return LiveOrigin(
        show[""],
        variants={name: path for name, path in show.items() if name},
        window=30,
        loop=False,
        started_at=datetime.now(UTC) - timedelta(seconds=4 * segment_s),
    )


def record(origin: LiveOrigin, engine: str, directory: Path, **options: object) -> InProcess:
    values = {"segment_s": SEGMENT_S, "stall_s": 2.75, "ended_after_s": PATIENCE_S}
    return InProcess(origin, directory, engine=engine, **(values | options))


def hold(engine: str, scenario: Scenario, show: dict[str, Path], directory: Path) -> Outcome:
    """Run an engine with a fault."""
    segment_s = LONG_S if scenario.name in NEED_LONG else SEGMENT_S
    with on_air(show, segment_s) as origin:
        patience_s = 1.0 if scenario.final else PATIENCE_S
        options = {"segment_s": segment_s, "stall_s": 5.5 * segment_s}
        contender = record(origin, engine, directory, ended_after_s=patience_s, **options)
        return run_trial(
            contender, origin, scenario, scale=SCALE, wait_s=PATIENCE_S, settle=2, strict=False
        )


@pytest.fixture(scope="module")
def trials(
    request: pytest.FixtureRequest,
    show: dict[str, Path],
    long_show: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Trials:
    """Results of all trials needed by the selected tests."""
    wanted = [
        (item.callspec.params["engine"], item.callspec.params["scenario"])
        for item in request.session.items
        if item.path == request.path and "trials" in item.fixturenames
    ]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as pool:
        patch.setattr(recorder, "_BACKOFF_S", 0.1)
        return {
            (engine, scenario.name): pool.submit(
                hold,
                engine,
                scenario,
                long_show if scenario.name in NEED_LONG else show,
                tmp_path_factory.mktemp("rec"),
            )
            for engine, scenario in wanted
        }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_fault_loses_nothing_that_is_still_listed(
    engine: str, scenario: Scenario, trials: Trials
) -> None:
    outcome = trials[engine, scenario.name].result()
    account = outcome.account
    assert account.silent_s == 0
    assert account.lost_s <= scenario.least_lost * LONG_S + 0.001
    assert account.repeated_s < 0.1
    assert account.date_error_s < 0.0015
    if scenario.final:
        assert outcome.over
    else:
        assert outcome.recovered_s is not None
    if not scenario.least_lost:
        assert account.gaps_s == 0


@pytest.fixture(params=["no byte left", "below the floor"])
def fill(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[int, Callable, Callable]]:
    """A disk to record to, at `tmp_path/rec`: minimum free space, functions to fill and free it."""
    directory = tmp_path / "rec"
    directory.mkdir()
    filler = directory / "filler"
    # Separate, so that other writes to the machine's disk do not matter.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("NO DISK TO FILL: one of its own takes root; a full one was not tested")

    def fill_up() -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass

    def take_most() -> None:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, DISK_BYTES * 3 // 4)

    try:
        yield {
            "no byte left": (0, fill_up, filler.unlink),
            "below the floor": (DISK_BYTES // 2, take_most, filler.unlink),
        }[request.param]
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("engine", ["hls"])
def test_a_disk_that_is_full_and_freed_again_loses_nothing_that_is_listed(
    engine: str, show: dict[str, Path], fill: tuple[int, Callable, Callable], tmp_path: Path
) -> None:
    floor_bytes, fill_up, free_up = fill
    scenario = Scenario(
        name="disk full", begin=lambda _: fill_up(), lasts_s=8, end=lambda _: free_up()
    )
    with on_air(show) as origin:
        contender = record(origin, engine, tmp_path / "rec", min_free_bytes=floor_bytes)
        outcome = run_trial(
            contender, origin, scenario, scale=SCALE, wait_s=PATIENCE_S, settle=2, strict=False
        )
    assert outcome.recovered_s is not None
    assert isinstance(contender.capture.last_error, DiskFull)
    assert (outcome.account.lost_s, outcome.account.silent_s) == (0, 0)


@pytest.mark.parametrize("engine", ["hls"])
def test_a_short_soak_accounts_for_every_frame(
    engine: str, show: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.1)
    plan = make_plan(7, 20.0, scale=SCALE)
    assert len({step.scenario.name for step in plan}) >= 3
    with on_air(show) as origin:
        contender = record(origin, engine, tmp_path)
        found = soak({engine: (contender, origin, tmp_path)}, plan, 20.0)[engine]
    assert (found.overlaps, found.holes, found.account.silent_s) == (0, 0, 0)
    assert found.account.repeated_s == 0
    assert abs(found.account.gaps_s - found.account.lost_s) < 0.1
    assert found.account.shown_s > 10
