"""The command line: recorded files, reports, and one-line errors."""

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from db.session import upgrade
from db.writing.rows import SegmentRow
from db.writing.writes import ensure_channel, open_broadcast, record_segment
from emotion.media.video import probe
from emotion.types import EMOTIONS
from flows import cli
from flows.capture.processes import find_ffmpeg
from flows.demo.programme import make_programme
from flows.live.rows.file_analysis import Start, start_of

START = "2026-11-01T20:00:00+01:00"
TABLES = ("channels", "broadcasts", "segments", "gaps", "face_tracks", "observations")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_programme(tmp_path_factory.mktemp("clip") / "Evening News.mp4", duration_s=7)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SHOWMOOD_DATABASE_URL", raising=False)
    return tmp_path


@pytest.fixture
def stored(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    return database_url


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["showmood", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def dump(engine: Engine) -> dict[str, list[Any]]:
    """Return the rows of each table, without the time of writing."""

    def rows(connection: Connection, table: str) -> list[str]:
        found = connection.execute(text(f"SELECT * FROM {table}")).mappings()
        return sorted(repr({k: v for k, v in row.items() if k != "stored_at"}) for row in found)

    with engine.connect() as connection:
        return {table: rows(connection, table) for table in (*TABLES, "emotion_minutes")}


def test_file_analysed_twice_gives_identical_tables(
    stored: str, engine: Engine, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("analyze", str(clip), "--start", START, monkeypatch=monkeypatch) == 0
    once = dump(engine)
    assert len(once["observations"]) > 10
    assert len(once["segments"]) == 4
    assert run("analyze", str(clip), "--start", START, monkeypatch=monkeypatch) == 0
    assert dump(engine) == once
    with engine.connect() as connection:
        first = connection.execute(
            text("SELECT channel, min(ts) FROM emotion_history GROUP BY channel")
        ).one()
    assert first.channel == "evening-news"
    assert first[1] >= datetime(2026, 11, 1, 19, tzinfo=UTC)
    moved = "2026-11-01T20:00:03+01:00"
    assert run("analyze", str(clip), "--start", moved, monkeypatch=monkeypatch) == 0
    now = dump(engine)
    assert {name: len(rows) for name, rows in now.items()} == {
        name: len(rows) for name, rows in once.items()
    }
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT min(ts) FROM observations")) == first[1] + timedelta(
            seconds=3
        )
        began = connection.execute(
            text("SELECT started_at, segments, start_is_estimated FROM coverage")
        ).one()
    assert tuple(began) == (datetime.fromisoformat(moved), 4, False)


def test_file_does_not_replace_the_time_of_another_show(
    stored: str,
    engine: Engine,
    clip: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with engine.begin() as connection:
        channel = ensure_channel(connection, "news", "http://news")
        start = datetime.fromisoformat(START)
        broadcast = open_broadcast(connection, channel_id=channel, started_at=start, title="Live")
        record_segment(
            connection,
            SegmentRow(
                channel_id=channel,
                broadcast_id=broadcast,
                sequence=0,
                started_at=start + timedelta(seconds=5),
                duration_s=2,
            ),
        )
    before = dump(engine)
    arguments = ("analyze", str(clip), "--name", "news", "--start", START)
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    assert (
        f"news has another show at that time, number {broadcast} (Live)" in capsys.readouterr().err
    )
    assert dump(engine) == before


def test_report_has_the_figures_of_the_tables(
    stored: str,
    engine: Engine,
    clip: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("analyze", str(clip), "--start", START, monkeypatch=monkeypatch)
    arguments = ("report", "evening-news", "--since", "2026-11-01", "--png", str(home / "a.png"))
    assert run(*arguments, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert f"faces            {len(dump(engine)['observations'])}" in " ".join(
        said.split("  ")
    ) or (str(len(dump(engine)["observations"])) in said)
    assert (home / "a.png").read_bytes().startswith(b"\x89PNG")
    run(*arguments, "--json", str(home / "a.json"), monkeypatch=monkeypatch)
    capsys.readouterr()
    run("analyze", str(clip), "--json", "--start", START, monkeypatch=monkeypatch)
    stored_rows, rows = (
        [json.loads(line) for line in said.splitlines()]
        for said in ((home / "a.json").read_text(), capsys.readouterr().out)
    )
    assert [list(row) for row in stored_rows] == [list(row) for row in rows] != []
    for row, same in zip(stored_rows, rows, strict=True):
        of_database = {"broadcast_id": None, "track_id": None}
        assert row | of_database == same
    assert run("report", "evening-news", "--since", "1h", monkeypatch=monkeypatch) == 2
    assert "--since 2026-11-01" in capsys.readouterr().err


def test_json_is_one_object_per_face_and_needs_no_database(clip: Path, home: Path) -> None:
    env = os.environ | {"SHOWMOOD_HOME": str(home / "unused")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "analyze", str(clip), "--json", "--start", START],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        cwd=home,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 10
    assert not (home / "unused").exists()
    assert [(r["ts"], r["track"]) for r in rows] == sorted((r["ts"], r["track"]) for r in rows)
    for row in rows:
        raw = [row[f"raw_{name}"] for name in EMOTIONS]
        smoothed = {name: row[name] for name in EMOTIONS if row[name] is not None}
        for values in (raw, list(smoothed.values())):
            assert sum(p or 0 for p in values) == pytest.approx(1, abs=1e-3)
        assert row["emotion"] == max(smoothed, key=lambda name: smoothed[name])
        elapsed = datetime.fromisoformat(row["ts"]) - datetime.fromisoformat(START)
        assert elapsed.total_seconds() == pytest.approx(row["offset_s"], abs=1e-6)


@pytest.fixture(scope="module")
def dated(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the clip with START as its creation time."""
    path = tmp_path_factory.mktemp("dated") / "dated.mp4"
    copy = ["-v", "error", "-i", str(clip), "-c", "copy", "-metadata", f"creation_time={START}"]
    subprocess.run([find_ffmpeg(), *copy, str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


def test_file_is_dated_by_its_container(dated: Path) -> None:
    start = start_of(dated, datetime.now(UTC))
    assert (start.at, start.is_estimated) == (datetime.fromisoformat(START), False)


def test_file_without_a_date_ended_when_it_was_last_modified(clip: Path, dated: Path) -> None:
    length = timedelta(seconds=probe(clip).duration_s)
    now = datetime.now(UTC)
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    os.utime(clip, (0, at.timestamp()))
    assert start_of(clip, now) == Start(at=at - length, is_estimated=True)
    os.utime(clip, (0, now.timestamp() + 10_000))
    assert start_of(clip, now) == Start(at=now - length, is_estimated=True)
    before = datetime.fromisoformat(START) + timedelta(seconds=1)
    assert start_of(dated, before) == Start(at=before - length, is_estimated=True)


def test_file_is_never_dated_in_the_future(
    home: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soon = (datetime.now(UTC) - timedelta(seconds=2)).isoformat()
    assert run("analyze", str(clip), "--json", "--start", soon, monkeypatch=monkeypatch) == 2
    assert f"--start {soon}: the file would end at" in capsys.readouterr().err


def _files(folder: Path) -> dict[str, Path]:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.mp4").write_text("no video here\n" * 100)
    (folder / "concat.ts").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    return {
        name: folder / f"{name}" for name in ("empty.mp4", "notes.mp4", "concat.ts", "none.mp4")
    }


@pytest.mark.parametrize("name", ["empty.mp4", "notes.mp4", "concat.ts", "none.mp4"])
def test_file_without_video_is_a_one_line_error(
    name: str,
    stored: str,
    engine: Engine,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = _files(home)[name]
    before = dump(engine)
    assert run("analyze", str(file), monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("showmood: ")
    assert said.err.count("\n") == 1
    assert name in said.err
    assert dump(engine) == before


def test_damaged_file_is_stored_as_far_as_readable_and_reported(
    stored: str,
    engine: Engine,
    clip: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cut = home / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 7 // 10])
    assert run("analyze", str(cut), "--start", START, monkeypatch=monkeypatch) == 0
    assert "truncated" in caplog.text
    assert len([row for row in dump(engine)["segments"] if "analysed" in row]) >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("watch", "file:///etc/passwd"), "http"),
        (("watch", "/etc/passwd"), "http"),
        (("watch", "concat:a|b"), "http"),
        (("watch", "http://127.0.0.1:1/live.m3u8"), "internal address"),
        (("watch", "https://user:secret@example.com/"), "leave user name and password out"),
        (("watch", "https://example.com/", "--for", "soon"), "duration"),
        (("watch", "https://example.com/", "--name", "Über"), "lower-case"),
        (("report", "nobody"), "nobody"),
        (("report", "nobody", "--since", "then"), "write it as"),
        (("models", "pull", "nothing"), "nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_invalid_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    said: str,
    stored: str,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = dump(engine)
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("showmood: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert "secret" not in printed.err
    assert dump(engine) == before


def test_unavailable_database_is_named_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/shows")
    assert run("report", "demo", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1:1" in said
    assert "secret" not in said
    assert said.count("\n") == 1


def test_port_in_use_is_named_with_the_setting(
    stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("SHOWMOOD_DEMO_PORT", str(port))
        assert run("up", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert f"port {port}" in said
    assert "SHOWMOOD_DEMO_PORT" in said


def test_missing_video_for_the_demo(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("demo", "--video", "gone.mp4", monkeypatch=monkeypatch) == 2
    assert "gone.mp4: no such file" in capsys.readouterr().err


def test_psql_queries_the_database(
    stored: str, clip: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT count(*) FROM emotion_history"
    assert run("db", "psql", "-Atc", sql, monkeypatch=monkeypatch) == 0
    assert capfd.readouterr().out.strip() == "0"


def test_models_are_listed_with_licence_and_state(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("models", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "retinaface-mobilenet0.25" in said
    assert "MIT" in said
    assert "non-commercial research" in said


def test_missing_own_network_is_a_one_line_error(
    home: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for network, said in (("none.onnx", "cannot read the network"), ("own", "SHOWMOOD_OWN_EMOT")):
        arguments = ("analyze", str(clip), "--json", "--start", "2026-11-22T20:00:00Z")
        arguments = (*arguments, "--emotion-model", network)
        assert run(*arguments, monkeypatch=monkeypatch) == 2
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1


def test_psql_gets_the_password_in_a_file(
    home: Path, databases: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a server that requires one, and special characters of libpq and password files."""
    secret = r"a:b\c d@/%"
    with databases.with_password("reader", secret) as url:
        upgrade(url)
        monkeypatch.setenv("SHOWMOOD_DATABASE_URL", url)
        seen = "\\! tr '\\0' ' ' < /proc/$PPID/cmdline"
        assert (
            run(
                "db",
                "psql",
                "-At",
                "-c",
                "SELECT current_user",
                "-c",
                seen,
                monkeypatch=monkeypatch,
            )
            == 0
        )
    printed = capfd.readouterr()
    assert printed.out.splitlines()[0] == "reader", printed.err
    assert "psql" in printed.out
    assert "a:b" not in printed.out
    assert "a%3Ab" not in printed.out


def test_report_without_a_channel_lists_them(
    stored: str,
    clip: Path,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("report", monkeypatch=monkeypatch) == 2
    assert "there is no channel yet" in capsys.readouterr().err
    with engine.begin() as connection:
        channel = ensure_channel(connection, "news", "https://a.b")
        open_broadcast(connection, channel_id=channel, started_at=datetime.fromisoformat(START))
    assert run("report", monkeypatch=monkeypatch) == 0
    assert "news" in capsys.readouterr().out
