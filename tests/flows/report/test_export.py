"""A channel's history as a file: whole, in order, the same in every form, and never half."""

import csv
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from benchmarks.made_shows import make_show, pieces
from db.errors import UnknownChannel
from db.reading import history
from db.writing.rows import SegmentRow
from db.writing.writes import ensure_channel, open_broadcast, replace_segment
from flows.cli import app
from flows.errors import UsageError
from flows.report.export import FORMATS, export_history
from flows.report.text import save_timeline

START = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
END = START + timedelta(days=10)


@pytest.fixture
def shows(engine):
    """Two shows, days apart, with a title that needs quoting in every form."""
    with engine.begin() as connection:
        channel = ensure_channel(connection, "talk", "http://talk")
    for number, day in enumerate((0, 3)):
        start = START + timedelta(days=day)
        with engine.begin() as connection:
            broadcast = open_broadcast(
                connection, channel_id=channel, started_at=start, title='Él, "he"\\said\n'
            )
        rows = make_show((number,), start=start, seconds=120)
        for index, (at, part) in enumerate(pieces(rows, start=start, seconds=120, segment_s=30)):
            segment = SegmentRow(
                channel_id=channel,
                broadcast_id=broadcast,
                sequence=index,
                started_at=at,
                duration_s=30.0,
            )
            replace_segment(engine, segment, part)


@pytest.fixture
def connection(engine, shows):
    with engine.connect() as made:
        yield made


@pytest.fixture
def wanted(connection):
    return [
        tuple(row)
        for row in connection.execute(
            text(f"SELECT {', '.join(history.COLUMNS)} FROM emotion_history ORDER BY ts, track")
        )
    ]


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    assert tuple(names) == history.COLUMNS
    for row in rows:
        channel, show, ts, track, emotion, *numbers, broadcast, valence, arousal = row
        yield (
            channel,
            show,
            datetime.fromisoformat(ts),
            int(track),
            emotion,
            *(float(number) if number else None for number in numbers),
            int(broadcast),
            *(float(number) if number else None for number in (valence, arousal)),
        )


def read_json(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert tuple(row) == history.COLUMNS
        row["ts"] = datetime.fromisoformat(row["ts"])
        yield tuple(row.values())


def read_parquet(path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    assert tuple(table.column_names) == history.COLUMNS
    for row in table.to_pylist():
        yield tuple(row.values())


READERS = {"csv": read_csv, "json": read_json, "parquet": read_parquet}


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_holds_what_the_view_says(connection, wanted, tmp_path, form, monkeypatch):
    monkeypatch.setattr(history, "BATCH_ROWS", 100)  # many batches, and borders within a moment
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "talk.out"
    assert export_history(connection, "talk", START, END, path, form=form) == len(wanted) > 2000
    got = list(READERS[form](path))
    assert [row[:5] for row in got] == [row[:5] for row in wanted]
    for row, want in zip(got, wanted, strict=True):
        assert [cell is None for cell in row] == [cell is None for cell in want]
        assert [cell for cell in row[5:] if cell is not None] == pytest.approx(
            [cell for cell in want[5:] if cell is not None], rel=1e-6
        )
    assert [each.name for each in tmp_path.iterdir()] == ["talk.out"]


@pytest.mark.parametrize("title", ["=cmd|'/C calc'!A0", "+1", "-1", "@SUM(A1)", " =1", "＝1"])
def test_no_title_is_a_formula(engine, shows, tmp_path, title):
    with engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET title = :title"), {"title": title})
        path = tmp_path / "talk.csv"
        export_history(connection, "talk", START, START + timedelta(seconds=90), path, form="csv")
    with path.open(newline="", encoding="utf-8") as file:
        _, first, *_ = csv.reader(file)
    assert first[1] == f"'{title}"


def test_a_range_is_half_open_and_may_be_empty(connection, wanted, tmp_path):
    moment = wanted[500][2]
    before = export_history(connection, "talk", START, moment, tmp_path / "a", form="csv")
    after = export_history(connection, "talk", moment, END, tmp_path / "b", form="csv")
    assert before + after == len(wanted)
    assert export_history(connection, "talk", END, END, tmp_path / "c", form="csv") == 0
    assert (tmp_path / "c").read_text() == ",".join(history.COLUMNS) + "\n"


def test_a_failure_leaves_the_old_file_and_no_half_one(connection, tmp_path, monkeypatch):
    path = tmp_path / "talk.csv"
    path.write_text("before")
    with pytest.raises(UnknownChannel, match="there are talk"):
        export_history(connection, "nobody", START, END, path, form="csv")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [
        ("talk.csv", "before")
    ]
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        export_history(connection, "talk", START, END, tmp_path / "no" / "x.csv", form="csv")


def test_parquet_without_its_library_says_what_to_install(connection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'showmood\[parquet\]'"):
        export_history(connection, "talk", START, END, tmp_path / "x", form="parquet")


def test_a_timeline_is_an_svg_too(connection, tmp_path):
    path = tmp_path / "mood.svg"
    assert save_timeline(connection, "talk", START, END, path, kind="svg")
    assert "<svg" in path.read_text(encoding="utf-8")


def test_the_command_writes_all_of_them(shows, database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    names = {"--csv": "a.csv", "--json": "a.json", "--svg": "a.svg", "--png": "a.png"}
    files = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
    span = ("--since", "2026-10-31", "--until", "2026-11-02")
    done = CliRunner().invoke(app, ["report", "talk", *span, *files])
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == set(names.values())
    assert (
        len(list(read_csv(tmp_path / "a.csv"))) == len(list(read_json(tmp_path / "a.json"))) > 500
    )


def test_a_range_the_wrong_way_round_is_said(shows, database_url, monkeypatch):
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    span = ("--since", "2026-11-02", "--until", "2026-11-01")
    done = CliRunner().invoke(app, ["report", "talk", *span])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "--since 2026-11-02 is not before --until 2026-11-01"
