"""Exports of a channel's history: complete, in order, equal in all formats, and atomic."""

import csv
import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from benchmarks.history.made_shows import make_show, pieces
from db.errors import UnknownChannel
from db.reading import history
from db.reading.history import columns_of
from db.reading.shows import shows_of
from db.tables.shows import EMOTIONS
from db.writing.rows import SegmentRow
from db.writing.writes import ensure_channel, open_broadcast, replace_segment
from flows.cli import app
from flows.errors import UsageError
from flows.report import openface
from flows.report.export import export_rows, of_view
from flows.report.file_formats import FORMATS
from flows.report.text import save_timeline

COLUMNS = Path(__file__).resolve().parents[3] / "docs" / "columns.md"
START = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
END = START + timedelta(days=10)


@pytest.fixture
def shows(engine):
    """Two shows, days apart, with a title that needs quoting in every format."""
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
                frames_analysed=150,
                analysed_fps=5.0,
                width_px=1280,
                height_px=720,
                model="net+centred",
            )
            replace_segment(engine, segment, part)


@pytest.fixture
def connection(engine, shows):
    with engine.connect() as made:
        yield made


@pytest.fixture
def wanted(connection):
    """Rows of the views, by kind: tuples, with the seconds since the show's start."""

    def ask(kind):
        view = history.VIEWS[kind]
        rows = connection.execute(
            text(f"SELECT * FROM {view.name} ORDER BY {view.at}, {view.order}")
        ).mappings()
        starts = dict(
            connection.execute(text("SELECT broadcast_id, started_at FROM coverage")).all()
        )
        return [
            {
                **{f"file_{name}" if name == "offset_s" else name: row[name] for name in row},
                "offset_s": (row[view.at] - starts[row["broadcast_id"]]).total_seconds(),
            }
            for row in rows
        ]

    return ask


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_json(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_parquet(path):
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()


def same(got, want):
    """Return whether a cell of a file equals the view's value."""
    if want is None or got is None or got == "":
        return want is None and got in (None, "")
    if isinstance(want, datetime):
        at = got if isinstance(got, datetime) else datetime.fromisoformat(got)
        return at == want and (at is got or (got.endswith("+00:00") and len(got) == 32))
    if isinstance(want, str | bool):
        return str(got) == str(want)
    return float(got) == pytest.approx(float(want), rel=1e-6)


READERS = {"csv": read_csv, "json": read_json, "parquet": read_parquet}


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_equals_the_view(connection, wanted, tmp_path, form, monkeypatch):
    monkeypatch.setattr(history, "BATCH_ROWS", 100)  # many batches, and borders within a moment
    if form == "parquet":
        pytest.importorskip("pyarrow")
    for kind in history.KINDS:
        path, want = tmp_path / kind, wanted(kind)
        written = export_rows(connection, "talk", START, END, path, form=form, kind=kind)
        got = READERS[form](path)
        least = {"faces": 2000, "frames": 1000, "seconds": 200, "shots": -1}.get(kind, 10)
        assert written.n_rows == len(got) == len(want) > least
        names = list(want[0]) if want else []
        assert all(list(row) == names for row in got)
        for row, line in zip(got, want, strict=True):
            assert all(same(row[name], line[name]) for name in names)
    there = {each.name for each in tmp_path.iterdir()}
    beside = set() if form == "parquet" else {f"{kind}.meta.json" for kind in history.KINDS}
    assert there == {*history.KINDS, *beside}


def test_every_format_describes_its_columns(connection, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for form in ("csv", "parquet"):
        export_rows(connection, "talk", START, END, tmp_path / f"talk.{form}", form=form)
    said = json.loads((tmp_path / "talk.csv.meta.json").read_text())
    assert said["time_zone"] == "UTC"
    assert (said["n_rows"], len(said["shows"])) == (len(read_csv(tmp_path / "talk.csv")), 2)
    schema = parquet.read_schema(tmp_path / "talk.parquet")
    assert schema.metadata[b"showmood.time_zone"] == b"UTC"
    assert schema.metadata[b"showmood.written_by"].startswith(b"showmood ")
    late = parquet.read_metadata(tmp_path / "talk.parquet").metadata
    assert int(late[b"showmood.n_rows"]) == said["n_rows"]
    types = {"timestamp": "timestamp[us, tz=UTC]", "float32": "float", "float64": "double"}
    for column, each in zip(said["columns"], schema, strict=True):
        assert (column["name"], types.get(column["type"], column["type"])) == (
            each.name,
            str(each.type),
        )
        assert each.metadata[b"unit"].decode() == column["unit"]
        assert column["meaning"] == each.metadata[b"meaning"].decode() != "", column["name"]
    units = {column["name"]: column["unit"] for column in said["columns"]}
    assert [units[name] for name in ("ts", "x0", "score", "valence", "offset_s", "show")] == [
        "UTC", "px", "0 to 1", "-1 to 1", "s", "",
    ]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_a_frame_is_a_row_with_openface_s_columns(connection, wanted, tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "a"
    export_rows(connection, "talk", START, END, path, form=form, words="openface")
    got = READERS[form](path)
    faces, looked = wanted("faces"), wanted("frames")
    seen = [row for row in got if int(row["success"])]
    assert len(seen) == len(faces)
    for row, face in zip(seen, faces, strict=True):
        assert (int(row["face_id"]), float(row["timestamp"])) == (face["track"], face["offset_s"])
        assert same(row["FaceRectWidth"], face["x1"] - face["x0"])
        assert all(same(row[name], face[name]) for name in EMOTIONS)
        assert (int(row["frame_width"]), int(row["frame_height"])) == (1280, 720)
    assert len(got) == len(faces) + sum(not row["faces"] for row in looked) > len(faces)
    of_frames = {(row["broadcast_id"], row["frame"]) for row in got}
    assert len(of_frames) == len(looked)
    assert max(int(row["frame"]) for row in got) == len(looked) // 2
    blank = next(row for row in got if not int(row["success"]))
    assert (int(blank["face_id"]), float(blank["confidence"])) == (0, 0)
    assert blank["FaceRectX"] in ("", None)


def test_one_show_is_exported_alone(connection, wanted, tmp_path):
    show = shows_of(connection, "talk")[-1]
    path = tmp_path / "a.json"
    export_rows(connection, "talk", START, END, path, form="json", show_ids=[show.id])
    assert [row["ts"] for row in read_json(path)] == [
        row["ts"].isoformat(timespec="microseconds")
        for row in wanted("faces")
        if row["broadcast_id"] == show.id
    ]


@pytest.mark.parametrize("title", ["=cmd|'/C calc'!A0", "+1", "-1", "@SUM(A1)", " =1", "＝1"])
def test_no_title_is_a_formula(engine, shows, tmp_path, title):
    with engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET title = :title"), {"title": title})
        path = tmp_path / "talk.csv"
        export_rows(connection, "talk", START, START + timedelta(seconds=90), path, form="csv")
    with path.open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert first["show"] == f"'{title}"


def test_a_range_is_half_open_and_may_be_empty(connection, wanted, tmp_path):
    moment = wanted("faces")[500]["ts"]

    def count(name, since, until):
        return export_rows(connection, "talk", since, until, tmp_path / name, form="csv").n_rows

    assert count("a", START, moment) + count("b", moment, END) == len(wanted("faces"))
    assert count("c", END, END) == 0
    names = [column.name for column in columns_of(connection, "faces")]
    assert (tmp_path / "c").read_text() == ",".join([*names, "offset_s"]) + "\n"


def test_a_failure_keeps_the_old_file_and_leaves_no_partial_one(connection, tmp_path):
    path = tmp_path / "talk.csv"
    path.write_text("before")
    with pytest.raises(UnknownChannel, match="there are talk"):
        export_rows(connection, "nobody", START, END, path, form="csv")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [
        ("talk.csv", "before")
    ]
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        export_rows(connection, "talk", START, END, tmp_path / "no" / "x.csv", form="csv")


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_an_error_and_leaves_nothing(connection, tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / f".x.{form}.part").symlink_to("/dev/full")
    with pytest.raises(UsageError, match=f"x.{form} cannot be written: .*No space left on device"):
        export_rows(connection, "talk", START, END, tmp_path / f"x.{form}", form=form)
    assert not list(tmp_path.iterdir())


def test_parquet_without_its_library_says_what_to_install(connection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'showmood\[parquet\]'"):
        export_rows(connection, "talk", START, END, tmp_path / "x", form="parquet")


def test_a_timeline_can_be_an_svg(connection, tmp_path):
    path = tmp_path / "mood.svg"
    assert save_timeline(connection, "talk", START, END, path, kind="svg")
    assert "<svg" in path.read_text(encoding="utf-8")


def test_the_command_writes_all_formats(shows, database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    names = {"--csv": "a.csv", "--json": "a.json", "--svg": "a.svg", "--png": "a.png"}
    files = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
    span = ("--since", "2026-10-31", "--until", "2026-11-02")
    done = CliRunner().invoke(app, ["report", "talk", *span, *files])
    assert done.exit_code == 0, done.output
    described = {"a.csv.meta.json", "a.json.meta.json"}
    assert {path.name for path in tmp_path.iterdir()} == set(names.values()) | described
    assert len(read_csv(tmp_path / "a.csv")) == len(read_json(tmp_path / "a.json")) > 500
    assert "left out, by --since and --until: 1 after 2026-11-02" in done.output


def test_rows_go_to_stdout_and_the_report_to_stderr(shows, database_url, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    command = [sys.executable, "-m", "flows.cli", "report", "talk", "--show", "last", "--csv", "-"]
    done = subprocess.run(
        [*command, "--rows", "tracks"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    names, *rows = done.stdout.splitlines()
    assert names.startswith("channel,show,track,")
    assert names.endswith(",offset_s")
    assert f"{len(list(csv.reader(rows)))} tracks: -" in done.stderr
    assert not list(tmp_path.iterdir())
    head = subprocess.run(
        f"{shlex.join(command)} | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert head.stdout.startswith("channel,show,ts,")
    assert "Traceback" not in head.stderr
    assert "Broken pipe" not in head.stderr


def test_a_reversed_range_is_an_error(shows, database_url, monkeypatch):
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    span = ("--since", "2026-11-02", "--until", "2026-11-01")
    done = CliRunner().invoke(app, ["report", "talk", *span])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "--since 2026-11-02 is not before --until 2026-11-01"


def test_the_table_of_columns_is_that_of_the_database(engine):
    """To update the document: SHOWMOOD_WRITE_DOCS=1 pytest tests/flows/report/test_export.py"""
    lines = [COLUMNS.read_text(encoding="utf-8").partition("\n## ")[0].rstrip()]
    with engine.connect() as connection:
        tables = {kind: of_view(connection, kind).columns for kind in history.KINDS}
    for title, columns in (tables | {"openface": openface.COLUMNS}).items():
        lines += ["", f"## {title}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning} |" for c in columns]
        assert all(column.meaning for column in columns)
    said = "\n".join(lines) + "\n"
    if os.environ.get("SHOWMOOD_WRITE_DOCS"):
        COLUMNS.write_text(said, encoding="utf-8")
    assert COLUMNS.read_text(encoding="utf-8") == said
