"""Re-analysis of a stretch of a channel from its recording."""

import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db.channel_lock import channel_lock
from db.errors import ChannelBusy, UnknownChannel
from db.writing import writes
from emotion.pipeline import Analyser, Linker
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.segment import Segment
from flows.errors import UsageError
from flows.live.rows.analysis import Analysis, networks
from flows.live.rows.pace import Pace
from flows.live.rows.store import Store
from flows.reanalyse import Reanalysis, reanalyse_range
from flows.recordings.finding import folder_of
from flows.settings import Settings

START = datetime(2026, 11, 1, 19, tzinfo=UTC)
LOG = logging.getLogger("test")


@dataclass(frozen=True)
class Recorded:
    """Four seconds of a channel, recorded and analysed."""

    settings: Settings
    url: str
    engine: Engine
    paths: list[Path]

    def again(self, begin_s: float, end_s: float, model: str = "mini-xception") -> list[float]:
        """Analyse [begin, end) again; return the reported progress."""
        told: list[float] = []
        reanalyse_range(
            self.settings,
            self.url,
            again(begin_s, end_s, model),
            log=LOG,
            on_progress=told.append,
            holder="a test",
        )
        return told

    def rows(self) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [
                tuple(row)
                for row in connection.execute(
                    text("SELECT ts, track_id, x0, happiness FROM observations ORDER BY 1, 2")
                )
            ]

    def models(self) -> list[str]:
        statement = text("SELECT model FROM segments ORDER BY started_at")
        with self.engine.connect() as connection:
            return [row[0].split("+")[-1] for row in connection.execute(statement)]


def again(begin_s: float, end_s: float, model: str, channel: str = "news") -> Reanalysis:
    return Reanalysis(
        channel=channel,
        begin=START + timedelta(seconds=begin_s),
        end=START + timedelta(seconds=end_s),
        fps=5.0,
        detector=DEFAULT_DETECTOR,
        emotion_model=model,
    )


@pytest.fixture(scope="module")
def analyser() -> Analyser:
    return networks(DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL, "cpu", None, 640)


@pytest.fixture
def recorded(
    tmp_path: Path,
    database_url: str,
    engine: Engine,
    programme_pieces: list[Path],
    analyser: Analyser,
) -> Recorded:
    settings = Settings(home=tmp_path, device="cpu")  # type: ignore[call-arg]
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "https://example.com/live")
        broadcast = writes.open_broadcast(connection, channel_id=channel, started_at=START)
    folder = folder_of(settings.recordings_dir, "news", START, broadcast)
    folder.mkdir(parents=True)
    paths = [folder / f"0001-20261101T190000Z-{number:06d}.ts" for number in range(4)]
    for piece, path in zip(programme_pieces, paths, strict=False):
        shutil.copyfile(piece, path)
    analysis = Analysis(
        analyser=analyser,
        linker=Linker(None),
        store=Store(
            engine=engine, channel_id=channel, broadcast_id=broadcast, model=analyser.model
        ),
        fps=5.0,
        log=LOG,
    )
    for number, path in enumerate(paths):
        analysis.pace = Pace()  # also on a slow machine
        analysis.take(
            Segment(
                channel="news",
                broadcast=broadcast,
                sequence=number,
                start=START + timedelta(seconds=number),
                start_is_estimated=False,
                duration_s=1.0,
                path=path,
                width_px=640,
                height_px=360,
            )
        )
    with engine.begin() as connection:
        writes.close_broadcast(
            connection, broadcast, ended_at=START + timedelta(seconds=4), status="completed"
        )
    return Recorded(settings=settings, url=database_url, engine=engine, paths=paths)


def test_another_network_replaces_the_rows_of_the_range_and_no_others(recorded: Recorded) -> None:
    before, models = recorded.rows(), recorded.models()
    told = recorded.again(1, 3)
    after = recorded.rows()
    assert told[-1] == 100.0
    assert told == sorted(told)
    # Same faces and tracks, with another network only inside the range.
    assert [row[:2] for row in after] == [row[:2] for row in before]
    inside = [
        START + timedelta(seconds=1) <= row[0] < START + timedelta(seconds=3) for row in after
    ]
    assert any(inside)
    assert [a[3] != b[3] for a, b in zip(after, before, strict=True)] == inside
    assert [a == b for a, b in zip(recorded.models(), models, strict=True)] == [
        True, False, False, True,
    ]  # fmt: skip


def test_re_analysis_is_idempotent_and_reversible(recorded: Recorded) -> None:
    before = recorded.rows()
    recorded.again(0, 4)
    once = recorded.rows()
    recorded.again(0, 4)
    assert recorded.rows() == once
    recorded.again(0, 4, DEFAULT_EMOTION_MODEL)
    assert [row[:3] for row in recorded.rows()] == [row[:3] for row in before]


def test_new_tracks_get_unused_numbers(recorded: Recorded) -> None:
    with recorded.engine.begin() as connection:  # so that all faces of the range are new
        connection.execute(text("UPDATE segments SET tracker_state = NULL WHERE sequence = 0"))
        connection.execute(text("UPDATE segments SET lag_ms = 700"))
    before = recorded.rows()
    recorded.again(1, 3)
    once = recorded.rows()

    def tracks(rows: list[tuple[Any, ...]], *, inside: bool) -> set[int]:
        begin, end = START + timedelta(seconds=1), START + timedelta(seconds=3)
        return {row[1] for row in rows if (begin <= row[0] < end) == inside}

    assert tracks(once, inside=False) == tracks(before, inside=False)
    assert min(tracks(once, inside=True)) == max(tracks(before, inside=False)) + 1
    recorded.again(1, 3)
    assert recorded.rows() == once
    with recorded.engine.connect() as connection:
        lags = connection.execute(text("SELECT DISTINCT lag_ms FROM segments")).scalars().all()
    assert lags == [700]


def test_rows_kept_within_the_range_count_as_outside(recorded: Recorded) -> None:
    kept = {row[1] for row in recorded.rows()}
    recorded.paths[1].unlink()
    recorded.again(0, 4)
    once = recorded.rows()
    begin, end = START + timedelta(seconds=1), START + timedelta(seconds=2)
    inside = {row[1] for row in once if begin <= row[0] < end}
    others = {row[1] for row in once if not begin <= row[0] < end}
    assert inside
    assert inside <= kept
    assert not inside & others
    recorded.again(0, 4)
    assert recorded.rows() == once


def test_segments_without_files_keep_their_rows_and_are_reported(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    models = recorded.models()
    recorded.paths[1].unlink()
    recorded.again(0, 4)
    assert "1 segments have no file any more" in caplog.text
    assert [a == b for a, b in zip(recorded.models(), models, strict=True)] == [
        False, True, False, False,
    ]  # fmt: skip
    for path in recorded.paths:
        path.unlink(missing_ok=True)
    with pytest.raises(UsageError, match="the recording is gone"):
        recorded.again(0, 4)


def test_a_show_on_air_is_not_analysed_again_and_a_finished_one_is(
    recorded: Recorded,
) -> None:
    with channel_lock(recorded.engine, "news", "run 1"):
        recorded.again(0, 4)
    with recorded.engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET status = 'live'"))
    with (
        channel_lock(recorded.engine, "news", "run 1"),
        pytest.raises(ChannelBusy, match="already being watched"),
    ):
        recorded.again(0, 4)


def test_missing_channels_and_recordings_are_one_line_errors(recorded: Recorded) -> None:
    with pytest.raises(UsageError, match="nothing was recorded then"):
        recorded.again(-100, -90)
    with pytest.raises(UsageError, match="is not before"):
        recorded.again(2, 2)
    with pytest.raises(UnknownChannel):
        reanalyse_range(
            recorded.settings,
            recorded.url,
            again(0, 4, "mini-xception", "nothing"),
            log=LOG,
            on_progress=lambda share: None,
            holder="a test",
        )
