"""The page plays files that are only in the object store, and shows errors."""

import asyncio
import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av
import httpx
import pytest
from sqlalchemy import text

from flows.objects.cache import Copies
from flows.objects.store import Objects
from flows.page.app import make_app
from flows.page.media.playback import Playback
from flows.page.media.stored import Stored
from flows.page.routes.context import Context


class Bucket:
    """Objects of an S3 server, and its requests."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.status = 200

    def server(self) -> ThreadingHTTPServer:
        bucket = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "list-type" in self.path:
                    self._list(parse_qs(urlsplit(self.path).query)["prefix"][0])
                    return
                bucket.asked.append(self.path)
                body = bucket.objects.get(self.path)
                status = bucket.status if body is not None or bucket.status != 200 else 404
                self._answer(status, body if status == 200 and body else b"<Error/>")

            def _list(self, prefix: str) -> None:
                keys = [key.removeprefix("/recordings/") for key in bucket.objects]
                found = "".join(
                    f"<Contents><Key>{key}</Key><Size>1</Size><ETag>1</ETag>"
                    "<LastModified>2026-11-20T19:00:00.000Z</LastModified></Contents>"
                    for key in keys
                    if key.startswith(prefix)
                )
                head = "<IsTruncated>false</IsTruncated>"
                self._answer(200, f"<ListBucketResult>{head}{found}</ListBucketResult>".encode())

            def do_PUT(self) -> None:
                size = int(self.headers["Content-Length"])
                bucket.objects[self.path] = self.rfile.read(size)
                self._answer(200, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"1"')
                self.send_header("Last-Modified", "Fri, 20 Nov 2026 19:00:00 GMT")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None: ...

        return ThreadingHTTPServer(("127.0.0.1", 0), Answering)


class Elsewhere:
    """The page on a machine without a recording."""

    def __init__(self, context: Context) -> None:
        self._app = make_app(context)

    def get(self, path: str, **more: Any) -> httpx.Response:
        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                return await client.get(path, **more)

        return asyncio.run(get())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    made = Bucket()
    with made.server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield made
        server.shutdown()
        thread.join(60)


@pytest.fixture
def elsewhere(page: Any, bucket: Bucket, tmp_path: Path) -> Iterator[Elsewhere]:
    """The page on a machine without a recording; all copies are in the store."""
    objects = Objects("s3://recordings/prefix")
    with page.made.engine.begin() as connection:
        for segment in page.made.segments:
            key = f"late-night/{segment.path.parent.name}/{segment.path.name}"
            size, digest = objects.put(key, segment.path)
            connection.execute(
                text(
                    "UPDATE segments SET object_key = :key, size_bytes = :size, sha256 = :digest"
                    " WHERE broadcast_id = :show AND sequence = :sequence"
                ),
                {
                    "key": key,
                    "size": size,
                    "digest": digest,
                    "show": page.made.show,
                    "sequence": segment.sequence,
                },
            )
    bucket.asked.clear()
    copies = Copies(objects=objects, directory=tmp_path / "copies", limit_bytes=1 << 30)
    playback = Playback(tmp_path / "recordings", stored=Stored(copies))
    yield Elsewhere(replace(page.context, playback=playback))
    with page.made.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE segments SET object_key = NULL, size_bytes = NULL, sha256 = NULL"
                " WHERE broadcast_id = :show"
            ),
            {"show": page.made.show},
        )


def test_recordings_in_the_store_are_played_through_the_page(
    page: Any, elsewhere: Elsewhere, bucket: Bucket
) -> None:
    show, segments = page.made.show, page.made.segments
    told = elsewhere.get(f"/data/show/{show}").json()
    assert told["elsewhere"] is None
    assert [(form, hevc) for *_, form, hevc in told["parts"]] == [(".ts", False), (".mp4", False)]
    assert len(bucket.asked) == 2, "the head of each part"
    listed = "".join(elsewhere.get(f"/media/{show}/part-{n}.m3u8").text for n in (0, 1))
    names = [line for line in listed.splitlines() if line and not line.startswith("#")]
    assert names == [f"{n}.ts" for n in range(6)] + [f"{n}.media.mp4" for n in range(6, 12)]
    assert listed.count('#EXT-X-MAP:URI="6.init.mp4"') == 1
    assert "BYTERANGE" not in listed
    assert len(bucket.asked) == 2, "a playlist fetches nothing"
    for segment in segments:
        whole = segment.path.read_bytes()
        answer = elsewhere.get(f"/media/{show}/{segment.sequence}{segment.path.suffix}")
        assert (answer.status_code, answer.content) == (200, whole)
        assert not answer.history
        if segment.path.suffix == ".mp4":
            halves = [
                elsewhere.get(f"/media/{show}/{segment.sequence}.{half}.mp4").content
                for half in ("init", "media")
            ]
            assert b"".join(halves) == whole
            assert (halves[0][4:8], halves[1][4:8]) in ((b"ftyp", b"moof"), (b"ftyp", b"styp"))
    part = elsewhere.get(f"/media/{show}/0.ts", headers={"Range": "bytes=188-375"})
    assert part.status_code == 206
    assert part.content == segments[0].path.read_bytes()[188:376]
    assert len(bucket.asked) == 12, "each once: the rest is of the cache"


def test_separate_audio_is_fetched_with_its_video(
    page: Any, elsewhere: Elsewhere, bucket: Bucket
) -> None:
    segment = page.made.segments[0]
    key = next(key for key in bucket.objects if key.endswith(segment.path.name))
    audio = f"{key.rpartition('/')[0]}/audio/{segment.path.stem}%2B0x180000.ts"
    bucket.objects[audio.replace("%2B", "+")] = segment.path.read_bytes()
    bucket.objects[audio] = segment.path.read_bytes()
    answer = elsewhere.get(f"/media/{page.made.show}/0.ts")
    assert bucket.asked == [audio, key]
    assert answer.status_code == 200
    assert answer.content != segment.path.read_bytes()
    with av.open(io.BytesIO(answer.content)) as played:
        assert sorted(stream.type for stream in played.streams) == ["audio", "video"]
    other = page.made.segments[1]
    gone = f"{key.rpartition('/')[0]}/audio/{other.path.stem}+0x180000.ts"
    bucket.objects[gone] = b"listed, and not found by its other name"
    assert elsewhere.get(f"/media/{page.made.show}/1.ts").status_code == 200


def test_a_still_and_a_clip_are_made_from_copies(
    page: Any, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    at = page.made.begin + timedelta(seconds=5.5)
    still = elsewhere.get(f"/still/{page.made.show}/{round(at.timestamp() * 1000)}.jpg")
    assert still.content.startswith(b"\xff\xd8")
    begin = round(page.made.begin.timestamp() * 1000) + 3000
    span = {"from": str(begin), "to": str(begin + 4000)}
    clip = elsewhere.get(f"/take/{page.made.show}/stretch.mp4", params=span)
    (tmp_path / "clip.mp4").write_bytes(clip.content)
    with av.open(tmp_path / "clip.mp4") as media:
        assert sum(1 for _ in media.decode(video=0)) >= 40


def test_local_files_need_no_request_to_the_store(
    page: Any, elsewhere: Elsewhere, bucket: Bucket
) -> None:
    with page.made.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(object_key) FROM show_segments")) == 12
    assert page.client.get(f"/media/{page.made.show}/0.ts").status_code == 200
    assert bucket.asked == []


def test_a_changed_object_is_reported(page: Any, elsewhere: Elsewhere, bucket: Bucket) -> None:
    [first] = (path for path in bucket.objects if path.endswith("-000001.ts"))
    bucket.objects[first] = b"other"
    answer = elsewhere.get(f"/media/{page.made.show}/1.ts")
    assert answer.status_code == 404
    assert "is not what was stored (its SHA-256 differs)" in answer.json()["why"]
    del bucket.objects[first]
    why = elsewhere.get(f"/media/{page.made.show}/1.ts").json()["why"]
    assert "is not in s3://recordings/prefix" in why
    assert "\n" not in why
    assert elsewhere.get(f"/media/{page.made.show}/2.ts").status_code == 200


def test_an_unavailable_store_is_reported_and_not_retried_immediately(
    page: Any, elsewhere: Elsewhere, bucket: Bucket
) -> None:
    bucket.status = 403
    told = elsewhere.get(f"/data/show/{page.made.show}")
    assert told.status_code == 200, "the rest of the show is there"
    n_asked = len(bucket.asked)
    answers = [elsewhere.get(f"/media/{page.made.show}/{n}.ts") for n in (0, 1)]
    assert [answer.status_code for answer in answers] == [503, 503]
    why = answers[1].json()["why"]
    assert why.startswith("the recording is only in the store: s3://recordings/prefix refuses")
    assert "\n" not in why
    assert len(bucket.asked) == n_asked
    page_of_it = elsewhere.get(f"/media/{page.made.show}/0.ts", headers={"Accept": "text/html"})
    assert "Not available now" in page_of_it.text


def test_two_simultaneous_requests_get_the_whole_file(
    page: Any, bucket: Bucket, tmp_path: Path
) -> None:
    objects = Objects("s3://recordings/prefix")
    segment = page.made.segments[0]
    _, digest = objects.put("a/x.ts", segment.path)
    stored = Stored(Copies(objects=objects, directory=tmp_path / "copies", limit_bytes=1 << 30))
    path = stored.path("a/x.ts")
    assert path is not None
    threads = [threading.Thread(target=stored.bring, args=(path, "a/x.ts", digest)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert [each.name for each in path.parent.iterdir()] == ["x.ts"]


@pytest.mark.parametrize("key", ["/etc/passwd", "../../x.ts", "a/../../x.ts"])
def test_a_key_cannot_lead_outside_the_cache(bucket: Bucket, tmp_path: Path, key: str) -> None:
    copies = Copies(objects=Objects("s3://recordings"), directory=tmp_path, limit_bytes=1)
    assert Stored(copies).path(key) is None
