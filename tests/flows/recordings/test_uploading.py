"""Recorded files in an object store: copied after their rows exist, readable on any machine."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from sqlalchemy import Engine, text

from db import keeping
from db.machines import installation, machines, register
from flows.capture.recorded import audio
from flows.errors import UsageError
from flows.objects.cache import Copies
from flows.objects.configured import copies_of
from flows.objects.errors import ObjectGone, StoreRefused
from flows.objects.store import Objects
from flows.recordings import forgetting
from flows.recordings.clip import clip
from flows.recordings.finding import find
from flows.recordings.play import playlist_at
from flows.recordings.retention import Limits, Recordings
from flows.recordings.segment_audio import bring_audio
from flows.recordings.store_retention import roll_store
from flows.recordings.uploading import Uploads, copying, uploading
from flows.settings import Settings


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(f"file://{tmp_path}/store")


@pytest.fixture
def uploads(engine: Engine, recordings_dir: Path, objects: Objects) -> Uploads:
    with engine.begin() as connection:
        register(connection, name="a", disk="1", version="0.1")
    return Uploads(engine=engine, directory=recordings_dir, objects=objects, machine="a")


@pytest.fixture
def elsewhere(engine: Engine, tmp_path: Path, objects: Objects) -> dict[str, Any]:
    """A machine with an empty disk."""
    copies = Copies(objects=objects, directory=tmp_path / "b" / "copies", limit_bytes=1 << 20)
    return {"recordings_dir": tmp_path / "b" / "recordings", "machine": "b", "copies": copies}


def keys(engine: Engine) -> list[Any]:
    statement = "SELECT object_key, size_bytes, length(sha256) FROM segments ORDER BY started_at"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_copied_recording_is_cut_and_played_where_it_was_not_recorded(
    engine: Engine, air, record, uploads: Uploads, elsewhere, watch, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 6))
    assert uploads.step() == 6
    assert uploads.step() == 0
    names = [f"flash/{show.folder.name}/{each.path.name}" for each in show.segments]
    assert keys(engine) == [
        (name, each.path.stat().st_size, 64)
        for name, each in zip(names, show.segments, strict=True)
    ]
    for each in show.segments:
        each.path.unlink()
    begin, end = show.segments[0].start, show.segments[-1].end
    [cut] = clip(engine, "flash", begin, end, tmp_path / "clip.mp4", **elsewhere)
    assert cut.duration_s == pytest.approx(3.0, abs=0.1)
    assert sorted(watch(tmp_path / "clip.mp4").flash) == [0, 1, 2]
    playlist, start = playlist_at(engine, "flash", show.segments[1].start, **elsewhere)
    assert start == show.segments[1].start
    assert playlist.read_text().count("#EXTINF") == 5
    newest, start = playlist_at(engine, "flash", None, **elsewhere)
    assert start == begin
    assert newest.read_text().count("#EXTINF") == 6


def silence(path: Path, like: Path) -> None:
    """Write silence with the timestamps of a segment's sound."""
    with av.open(str(like)) as source, av.open(str(path), "w", format="mpegts") as out:
        [sound] = source.streams.audio
        stream = out.add_stream("aac", rate=sound.rate, layout="mono")
        for frame in source.decode(sound):
            quiet = av.AudioFrame.from_ndarray(
                np.zeros((1, frame.samples), np.float32), format="fltp", layout="mono"
            )
            quiet.pts, quiet.sample_rate = frame.pts, frame.sample_rate
            quiet.time_base = frame.time_base
            out.mux(stream.encode(quiet))
        out.mux(stream.encode(None))


def test_audio_beside_pictures_is_copied_with_them_and_goes_with_them(
    engine: Engine, air, record, uploads: Uploads, elsewhere, watch, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 3))
    folder = show.folder / audio.FOLDER
    folder.mkdir()
    for each in show.segments:
        silence(folder / f"{each.path.stem}+0x45000.ts", each.path)
    # The last file's audio may still come; nothing says so but that it is not old.
    os.utime(show.segments[-1].path, (0, 0))
    assert uploads.step() == 3
    begin, end = show.segments[0].start, show.segments[-1].end
    shutil.rmtree(show.folder)
    clip(engine, "flash", begin, end, tmp_path / "clip.mp4", **elsewhere)
    seen = watch(tmp_path / "clip.mp4")
    assert seen.audio_s == pytest.approx(1.5, abs=0.1)
    assert seen.beep == []  # what their own sound has
    playlist, _ = playlist_at(engine, "flash", None, **elsewhere)
    [of_audio] = playlist.parent.glob("*-audio.m3u8")
    assert of_audio.read_text().count("#EXTINF") == 3
    roll_store(engine, uploads.objects, now=end + timedelta(days=1), days=0.5, most_bytes=None)
    assert list((tmp_path / "store").rglob("*.ts")) == []


def test_copies_of_audio_count_and_those_that_reach_into_kept_pictures_stay(
    engine: Engine, air, record, uploads: Uploads, objects: Objects, elsewhere, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 4))
    folder = show.folder / audio.FOLDER
    folder.mkdir()
    names = [f"{each.path.stem}+22500x45000.ts" for each in show.segments]  # to the next one's half
    for name in names:
        (folder / name).write_bytes(bytes(1000))
    os.utime(show.segments[-1].path, (0, 0))
    assert uploads.step() == 4
    sizes = [each.path.stat().st_size + 1000 for each in show.segments]
    assert [size for _, size, _ in keys(engine)] == sizes
    kept = show.segments[2]
    with engine.begin() as connection:
        keeping.keep(connection, "flash", kept.start, kept.end, "")
    stored = tmp_path / "store" / "flash" / show.folder.name / audio.FOLDER
    now = show.segments[0].start
    assert roll_store(engine, objects, now=now, days=None, most_bytes=sum(sizes) - 1)[0] == 1
    assert sorted(each.name for each in stored.iterdir()) == names
    roll_store(engine, objects, now=now + timedelta(days=1), days=0.5, most_bytes=None)
    assert sorted(each.name for each in stored.iterdir()) == names[1:3]
    shutil.rmtree(show.folder)
    bring_audio(
        elsewhere["copies"], find(engine, "flash", kept.start, kept.end, **elsewhere).segments
    )
    here = (elsewhere["copies"].directory / stored.relative_to(tmp_path / "store")).iterdir()
    assert sorted(each.name for each in here) == names[1:3]


def test_the_last_pictures_wait_for_audio_as_long_as_some_may_come(
    air, record, uploads: Uploads
) -> None:
    show = record(air("ts"), (0, 3))
    folder = show.folder / audio.FOLDER
    folder.mkdir()
    for each in show.segments[:2]:
        (folder / f"{each.path.stem}+0x45000.ts").write_bytes(b"1")
    claim, fetched = show.folder / "ffmpeg.pid", folder / "1.tmp"
    for each in (claim, fetched):
        each.touch()
    assert uploads.step() == 1
    claim.unlink()
    just_now = datetime.now(UTC).timestamp() + 60
    os.utime(show.folder, (just_now, just_now))
    assert uploads.step() == 0, "the run ended just now"
    os.utime(show.folder, (0, 0))
    assert uploads.step() == 0, "some is being fetched"
    fetched.unlink()
    assert uploads.step() == 2


def test_store_that_refuses_loses_nothing_and_is_caught_up_with(
    engine: Engine, air, record, uploads: Uploads, tmp_path: Path, caplog: Any
) -> None:
    record(air("ts"), (0, 3))
    store = tmp_path / "store"
    store.rmdir()
    store.write_text("no folder")  # root may write wherever it likes
    for _ in range(2):
        assert uploads.step() == 0
    assert uploads.behind.files == 3
    assert uploads.behind.since is not None
    assert "3 recorded files" in uploads.behind.summary()
    assert caplog.text.count("recording continues") == 1
    with engine.connect() as connection:
        [machine] = machines(connection)
    assert (machine.uploads, machine.upload_error) == (3, uploads.behind.error)
    store.unlink()
    assert uploads.step() == 3
    assert uploads.behind.summary() == "all recordings are copied"
    assert all(key for key, _, _ in keys(engine))


def test_a_copy_without_its_row_is_not_copied_twice(
    engine: Engine, air, record, uploads: Uploads, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 2))
    uploads.step()
    with engine.begin() as connection:
        connection.execute(text("UPDATE segments SET object_key = NULL"))
        connection.execute(text("DELETE FROM segments WHERE sequence = 1"))
    stored = [p.stat().st_mtime_ns for p in sorted((tmp_path / "store").rglob("*.ts"))]
    again = Uploads(
        engine=engine, directory=uploads.directory, objects=uploads.objects, machine="a"
    )
    again.step()
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "store").rglob("*.ts"))] == stored
    assert len(keys(engine)) == 1
    show.store([show.segments[1]])  # its analysis took longer
    again.step()
    assert all(key for key, _, _ in keys(engine))


def test_nothing_goes_from_the_disk_before_it_is_copied(
    engine: Engine, air, record, uploads: Uploads, recordings_dir: Path
) -> None:
    show = record(air("ts"), (0, 3))
    for each in show.segments:
        os.utime(each.path, (0, 0))
    settings = Settings(
        home=recordings_dir.parent,
        recordings_store="file:///x",
        keep_local_days=1,
        keep_recordings_days=30,
        min_free_disk_mb=0,
    )

    def roll() -> int:
        import logging

        rolling = Recordings(
            engine=engine,
            directory=recordings_dir,
            limits=Limits.of(settings),
            log=logging.getLogger("test"),
        )
        rolled = rolling.run(datetime.now(UTC))
        assert rolled is not None
        return rolled.files

    assert roll() == 0
    uploads.step()
    assert roll() == 3
    assert show.paths() == [None] * 3
    assert all(key for key, _, _ in keys(engine))


def test_copies_go_by_age_and_size_but_what_is_kept(
    engine: Engine, air, record, uploads: Uploads, objects: Objects, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 4))
    uploads.step()
    start = show.segments[0].start
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO kept (channel_id, started_at, ended_at, note)"
                " VALUES (:channel, :start, :end, 'mine')"
            ),
            {"channel": show.channel_id, "start": start, "end": show.segments[0].end},
        )
    now = start + timedelta(days=1)
    size = show.segments[3].path.stat().st_size
    most = show.segments[0].path.stat().st_size + size
    assert roll_store(engine, objects, now=now, days=2, most_bytes=None) == (0, 0)
    assert roll_store(engine, objects, now=now, days=2, most_bytes=most)[0] == 2
    assert [bool(key) for key, _, _ in keys(engine)] == [True, False, False, True]
    assert roll_store(engine, objects, now=now, days=0.5, most_bytes=None) == (1, size)
    assert [p.name for p in (tmp_path / "store").rglob("*.ts")] == [show.segments[0].path.name]


def test_deleted_show_is_deleted_from_the_store_too(
    engine: Engine, air, record, uploads: Uploads, recordings_dir: Path, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 2))
    uploads.step()
    settings = Settings(home=recordings_dir.parent, recordings_store=f"file://{tmp_path}/store")
    with engine.connect() as connection:
        began = connection.scalar(text("SELECT started_at FROM broadcasts"))
    files = forgetting.files_of(settings, "flash", [(show.broadcast, began, began)])
    forgetting.delete_files(settings, "flash", files)
    assert list((tmp_path / "store").rglob("*.ts")) == []


def test_changed_object_is_not_believed(
    engine: Engine, air, record, uploads: Uploads, elsewhere, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 2))
    uploads.step()
    first, _ = sorted((tmp_path / "store").rglob("*.ts"))
    first.write_bytes(b"other")
    begin, end = show.segments[0].start, show.segments[-1].end
    for each in show.segments:
        each.path.unlink()
    with pytest.raises(ObjectGone, match="is not what was stored"):
        clip(engine, "flash", begin, end, tmp_path / "clip.mp4", **elsewhere)
    for at in (None, begin):
        with pytest.raises(ObjectGone, match="is not what was stored") as refused:
            playlist_at(engine, "flash", at, **elsewhere)
        assert "\n" not in str(refused.value)
    assert [p.name for p in elsewhere["copies"].directory.rglob("*.ts")] == []
    first.unlink()
    with pytest.raises(ObjectGone, match="is not in"):
        clip(engine, "flash", begin, end, tmp_path / "clip.mp4", **elsewhere)
    found = find(engine, "flash", begin, end, recordings_dir=elsewhere["recordings_dir"])
    assert (found.segments, found.gone) == ((), 2), "without the store, on the machine it was on"


def test_store_of_another_installation_is_refused(
    engine: Engine, air, record, uploads: Uploads, objects: Objects, tmp_path: Path
) -> None:
    objects.claim("other")
    record(air("ts"), (0, 1))
    assert uploads.step() == 0
    assert "belongs to another installation" in str(uploads.behind.error)
    with engine.connect() as connection:
        mine = installation(connection)
    own = Objects(f"file://{tmp_path}/store/mine")
    own.claim(mine)
    own.claim(mine)
    file = tmp_path / "x.ts"
    file.write_bytes(b"1")
    own.put("a/x.ts", file)
    file.write_bytes(b"2")
    with pytest.raises(StoreRefused, match="is another recording"):
        own.put("a/x.ts", file)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3:/bucket", "cannot be opened"),
        ("ftp://host/x", "it begins with one of s3://"),
        ("bucket", "it begins with one of s3://"),
        ("az://container/x", "Account must be specified"),
    ],
)
def test_url_that_is_none_is_one_line(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        copies_of(Settings(home=tmp_path, recordings_store=url))
    assert "\n" not in str(refused.value)


def test_url_that_is_none_costs_no_show(engine: Engine, tmp_path: Path, caplog: Any) -> None:
    with copying(Settings(home=tmp_path, recordings_store="bucket"), engine):
        assert "recording continues, but nothing is copied" in caplog.text


def test_missing_bucket_and_unreachable_host_are_one_line_errors(
    monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int], tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    file = tmp_path / "x.ts"
    file.write_bytes(b"1")
    with pytest.raises(Exception, match=r"does not take x\.ts") as failed:
        Objects("s3://bucket/prefix").put("x.ts", file)
    assert "\n" not in str(failed.value)
    assert "SECRET" not in str(failed.value)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, str]]]:
    """A server with configurable answers by method: status, and S3's error code."""
    answers: dict[str, tuple[int, str]] = {}

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, code = answers[self.command]
            body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        yield answers
        server.shutdown()


@pytest.mark.parametrize(
    ("get", "put", "said"),
    [
        ((404, "NoSuchBucket"), (404, "NoSuchBucket"), "or there is no such bucket"),
        ((404, "NoSuchKey"), (403, "AccessDenied"), "or they may not write"),
        ((403, "InvalidAccessKeyId"), (403, "InvalidAccessKeyId"), "wrong credentials, or"),
    ],
    ids=["no such bucket", "read-only", "wrong credentials"],
)
def test_store_that_takes_nothing_is_one_line(
    engine: Engine,
    open_show,
    uploads: Uploads,
    s3: dict[str, tuple[int, str]],
    get: tuple[int, str],
    put: tuple[int, str],
    said: str,
) -> None:
    s3 |= {"GET": get, "PUT": put}
    (open_show().folder / "0001-20261122T190000Z-000000.ts").write_bytes(b"1")
    uploads.objects = Objects("s3://recordings/prefix")
    assert uploads.step() == 0
    error = str(uploads.behind.error)
    assert said in error
    assert "s3://recordings/prefix" in error
    assert put[0] == 404 or f": {put[1]}" in error
    assert "<" not in error
    assert "\n" not in error
    assert "SECRET" not in error
    assert uploads.behind.files == 1


def test_copying_is_one_process_at_a_time_and_runs_beside_a_show(
    engine: Engine, air, record, uploads: Uploads, until
) -> None:
    record(air("ts"), (0, 2))
    with uploading(uploads):
        until(lambda: all(key for key, _, _ in keys(engine)), what="their copies")


def test_cache_is_bounded(tmp_path: Path, objects: Objects) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(1000))
    copies = Copies(objects=objects, directory=tmp_path / "copies", limit_bytes=2500)
    for number in range(5):
        objects.put(f"a/{number}", file)
        path = copies.expect(f"a/{number}", None)
        copies.bring(path)
        os.utime(path, (number, number))  # long ago
    assert sorted(p.name for p in copies.directory.rglob("*") if p.is_file()) == ["2", "3", "4"]
