"""The page: lists, numbers, recordings, exports; read-only, with an analyst's rights."""

import asyncio
import csv
import io
import json
import re
from dataclasses import replace
from datetime import timedelta
from functools import partial

import av
import httpx
import pytest
from sqlalchemy import event, text

from db.errors import DatabaseRefused
from db.tables.shows import EMOTIONS
from flows.page.app import make_app
from flows.page.media.codecs import is_hevc
from tests.flows.page.growing import make_hevc


def ms(moment) -> int:
    return round(moment.timestamp() * 1000)


def test_the_first_page_lists_each_channel_with_its_last_shows(page) -> None:
    said = page.client.get("/").text
    assert "Late Night" in said
    assert said.count('class="show"') == 5
    assert '<path class="e-' in said


def test_errors_of_the_showfile_are_shown_instead_of_next_shows(page, tmp_path) -> None:
    (tmp_path / "prefect.yaml").write_text("deployments: 3\n")
    app = make_app(replace(page.context, prefect_file=tmp_path / "prefect.yaml"))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.get("/")

    said = asyncio.run(ask())
    assert said.status_code == 200
    assert "The next shows are not known" in said.text


def test_it_reads_as_an_analyst_and_cannot_write(page) -> None:
    with page.reader.connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == "showmood_analyst"
        assert connection.scalar(text("SHOW transaction_read_only")) == "on"
        assert connection.scalar(text("SHOW statement_timeout")) == "40s"
    with pytest.raises(DatabaseRefused), page.reader.connect() as connection:
        connection.execute(text("SELECT * FROM observations"))


def test_a_show_lists_files_on_disk_and_missing_ones(page) -> None:
    said = page.client.get(f"/data/show/{page.made.show}").json()
    begin = ms(page.made.begin)
    assert said["media"] == [[begin, begin + 12000], [begin + 18000, begin + 30000]]
    assert said["gaps"] == [[begin + 12000, begin + 18000, "the source answered 503"]]
    assert (said["begin"], said["until"], said["size"]) == (begin, begin + 30000, [128, 72])


@pytest.mark.parametrize("step_s", [60, 10, 1])
def test_means_are_those_of_the_rows(page, step_s) -> None:
    span = {60: 86400, 10: 3600, 1: 300}[step_s]
    index = int(page.made.begin.timestamp()) // span
    said = page.client.get(f"/data/show/{page.made.show}/{step_s}/{index}").json()
    with page.made.engine.connect() as connection:
        rows = connection.execute(
            text(
                f"SELECT extract(epoch FROM date_bin('{step_s} s', second, 'epoch'))::bigint,"
                " avg(anger), avg(raw_anger) FROM emotion_seconds WHERE broadcast_id = :show"
                " GROUP BY 1 ORDER BY 1"
            ),
            {"show": page.made.show},
        ).all()
    assert [(said["start"] + at) // 1000 for at in said["at"]] == [row[0] for row in rows]
    assert said["share"]["anger"] == pytest.approx([row[1] * 1000 for row in rows], abs=0.6)
    assert said["raw"]["anger"] == pytest.approx([row[2] * 1000 for row in rows], abs=0.6)
    assert said["share"]["contempt"] == [None] * len(rows)


def test_a_chunk_is_sent_once(page) -> None:
    url = f"/data/show/{page.made.show}/1/{int(page.made.begin.timestamp()) // 300}"
    first = page.client.get(url)
    assert first.headers["cache-control"] == "private, max-age=300"
    again = page.client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["", "/tracks", "/10/{hour}", "/faces/{half_minute}"])
def test_cached_data_are_not_queried_again(page, path, until) -> None:
    at = int(page.made.begin.timestamp())
    url = f"/data/show/{page.made.show}" + path.format(hour=at // 3600, half_minute=at // 30)
    first = page.client.get(url)
    until(lambda: page.context.hub.n_streams == 0, what="the end of other tests' streams")
    asked: list[str] = []
    note = partial(lambda *said: asked.append(said[2]))
    event.listen(page.reader.engine, "before_cursor_execute", note)
    try:
        again = page.client.get(url)
        plain = page.client.get(url, headers={"Accept-Encoding": "identity"})
        known = page.client.get(url, headers={"If-None-Match": first.headers["etag"]})
    finally:
        event.remove(page.reader.engine, "before_cursor_execute", note)
    assert again.json() == plain.json() == first.json()
    assert (known.status_code, known.content) == (304, b"")
    of_rows = r"emotion_(history|seconds|timeline)|track_summary|show_shots|SELECT sequence"
    assert [said for said in asked if re.search(of_rows, said)] == []


def test_grown_or_reanalysed_shows_are_computed_again(page, growing) -> None:
    show = growing("growing", [each.path for each in page.made.segments[:2]])
    url = f"/data/show/{show.show}"
    chunk = f"{url}/1/{int(show.begin.timestamp()) // 300}"
    show.grow()
    before, media = page.client.get(chunk), page.client.get(url).json()["media"]
    show.grow()
    after = page.client.get(chunk, headers={"If-None-Match": before.headers["etag"]})
    assert len(after.json()["at"]) == len(before.json()["at"]) + 2
    assert page.client.get(url).json()["media"] == [[media[0][0], media[0][1] + 2000]]
    with page.made.engine.begin() as connection:
        connection.execute(
            text("UPDATE segments SET model = 'another' WHERE broadcast_id = :show"),
            {"show": show.show},
        )
    again = page.client.get(chunk, headers={"If-None-Match": after.headers["etag"]})
    assert again.status_code == 200


def test_faces_are_those_of_the_rows(page) -> None:
    index = int(page.made.begin.timestamp()) // 30
    said = page.client.get(f"/data/show/{page.made.show}/faces/{index}").json()
    with page.made.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT ts, track, x0, y0, x1, y1 FROM emotion_history WHERE broadcast_id = :show"
                " ORDER BY ts, track"
            ),
            {"show": page.made.show},
        ).all()
    assert [(said["start"] + at) for at in said["at"]] == [ms(row.ts) for row in rows]
    assert said["track"] == [row.track for row in rows]
    assert said["box"][0] == [
        round(rows[0].x0),
        round(rows[0].y0),
        round(rows[0].x1 - rows[0].x0),
        round(rows[0].y1 - rows[0].y0),
    ]


def test_recordings_are_played_from_disk(page, tmp_path) -> None:
    # A player cannot go on from one form to the other: a playlist each.
    both = [page.client.get(f"/media/{page.made.show}/part-{n}.m3u8").text for n in (0, 1)]
    listed = "".join(both)
    assert page.client.get(f"/media/{page.made.show}/part-2.m3u8").status_code == 404
    assert [each.count("#EXT-X-MAP") for each in both] == [0, 6]
    assert all(each.endswith("#EXT-X-ENDLIST\n") for each in both)
    newest = page.client.get(f"/media/{page.made.show}/live.m3u8").text
    assert newest.count("6.mp4") == 2
    assert "ENDLIST" not in newest
    dates = re.findall(r"DATE-TIME:(\S+)", listed)
    assert dates[0] == "2026-11-20T19:00:00.000Z"
    assert dates[6] == "2026-11-20T19:00:18.000Z"
    names = [line for line in listed.splitlines() if not line.startswith("#")]
    assert names == [f"{n}.ts" for n in range(6)] + [f"{n}.mp4" for n in range(6, 12)]
    whole = page.client.get(f"/media/{page.made.show}/0.ts")
    part = page.client.get(f"/media/{page.made.show}/0.ts", headers={"Range": "bytes=188-375"})
    assert (part.status_code, part.content) == (206, whole.content[188:376])
    assert whole.content == page.made.segments[0].path.read_bytes()


def test_a_still_is_of_the_requested_time(page) -> None:
    at = ms(page.made.begin + timedelta(seconds=5.5))
    answer = page.client.get(f"/still/{page.made.show}/{at}.jpg")
    assert answer.headers["content-type"] == "image/jpeg", answer.text
    assert gray_of(answer.content) == pytest.approx((20 + 9 * 5 - 16) * 255 / 219, abs=4)
    gone = page.client.get(f"/still/{page.made.show}/{ms(page.made.begin) + 14000}.jpg")
    assert gone.status_code == 404


def gray_of(jpeg: bytes) -> float:
    with av.open(io.BytesIO(jpeg)) as media:
        return float(next(media.decode(video=0)).to_ndarray(format="gray").mean())


@pytest.mark.parametrize("form", ["mp4", "csv", "parquet", "openface.csv", "svg", "vtt", "ass"])
def test_a_stretch_is_exported(page, form, tmp_path) -> None:
    begin = ms(page.made.begin)
    answer = page.client.get(
        f"/take/{page.made.show}/stretch.{form}?from={begin + 2000}&to={begin + 6000}"
    )
    assert answer.status_code == 200, answer.text
    assert f".{form}" in answer.headers["content-disposition"]
    if form == "mp4":
        (tmp_path / "cut.mp4").write_bytes(answer.content)
        with av.open(str(tmp_path / "cut.mp4")) as media:
            assert sum(1 for _ in media.decode(video=0)) == 40
    elif form == "vtt":
        assert answer.text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n")
        assert "-->" in answer.text
        assert "00:00:04.000\n" in answer.text
    elif form == "ass":
        assert "Dialogue: 0,0:00:00.00,0:00:01.00,Mood,"[:20] in answer.text
    elif form == "svg":
        assert answer.text.startswith("<svg")
        assert answer.text.count("stroke-linejoin") == 7
    elif form == "openface.csv":
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        # Frames are numbered over the whole show: five a second.
        assert sorted({int(row["frame"]) for row in rows}) == list(range(11, 31))
        assert {row["FaceRectX"] == "" for row in rows if row["success"] == "0"} <= {True}
        assert float(rows[0]["timestamp"]) == 2.0
    elif form == "csv":
        assert len(answer.text.splitlines()) > 10


def test_a_clip_of_two_formats_is_offered_in_parts(page, tmp_path) -> None:
    begin = ms(page.made.begin)
    url = f"/take/{page.made.show}/stretch.mp4?from={begin + 8000}&to={begin + 22000}"
    answer = page.client.get(url)
    assert answer.status_code == 404
    assert "take its 2 parts" in answer.json()["why"]
    pictures = []
    for number, link in enumerate(answer.json()["links"]):
        part = page.client.get(link)
        assert part.headers["content-type"] == "video/mp4", part.text
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(part.content)
        with av.open(str(path)) as media:
            pictures.append(sum(1 for _ in media.decode(video=0)))
    assert pictures == [40, 40]
    said = page.client.get(url, headers={"Accept": "text/html"}).text
    assert said.count('href="/take/') == 2


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_hevc_is_detected_in_the_header(page, tmp_path, suffix) -> None:
    path = tmp_path / f"piece{suffix}"
    make_hevc(path)
    other = next(each.path for each in page.made.segments if each.path.suffix == suffix)
    assert (is_hevc(path), is_hevc(other)) == (True, False)
    assert not is_hevc(tmp_path / f"gone{suffix}")


def test_a_search_agrees_with_the_rows_and_shows_its_sql(page) -> None:
    query = {"channel": "late-night", "emotion": "neutral", "above": "0.3", "for": "2"}
    query |= {"since": "2026-11-19", "until": "2026-11-21"}
    said = page.client.get("/search", params=query).text
    sql = re.search(r'<pre id="sql"[^>]*>(.*?)</pre>', said, re.DOTALL)
    assert sql
    statement = (
        sql[1].replace("&#39;", "'").replace("&gt;", ">").replace("&lt;", "<").replace("&#34;", '"')
    )
    with page.reader.connect() as connection:
        rows = connection.exec_driver_sql(statement).all()
    assert rows
    assert said.count('class="still"') == len(rows)
    for row in rows:
        assert f"at={ms(row.begin) - 2000}&amp;mark={ms(row.begin)}-{ms(row.end)}" in said
        assert row.peak > 0.3


def test_a_stretch_is_kept_and_released(page) -> None:
    begin = ms(page.made.begin)
    wanted = {"show": page.made.show, "begin": begin, "end": begin + 4000, "note": "the goal"}
    kept = page.client.post("/kept", json=wanted)
    assert kept.status_code == 201, kept.text
    number = kept.json()["id"]
    assert "the goal" in page.client.get("/kept").text
    assert page.client.get(f"/data/show/{page.made.show}").json()["kept"][0][0] == number
    assert page.client.delete(f"/kept/{number}").status_code == 204
    assert page.client.delete(f"/kept/{number}").status_code == 404
    assert page.client.post("/kept", json=wanted | {"end": begin}).status_code == 404


def test_comparison_of_shows_and_map_of_the_week(page) -> None:
    said = page.client.get("/compare", params={"channel": "late-night", "emotion": "neutral"}).text
    assert 'class="heat"' in said
    numbers = [page.made.show, page.made.show + 2]
    body = page.client.get("/data/compare", params={"show": numbers, "emotion": "neutral"}).json()
    assert [each["id"] for each in body] == numbers
    assert body[1]["minute"] == [0, 1]
    assert len(page.client.get(f"/data/show/{page.made.show}/usual").json()["minute"]) >= 2


def test_a_table_has_the_same_data_for_screen_readers(page) -> None:
    said = page.client.get(f"/show/{page.made.show}/table").text
    assert all(f'<th scope="col">{name}</th>' in said for name in EMOTIONS)
    assert "the source answered 503" in said


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/show/999999", "there is no show 999999"),
        ("/show/99999999999999999999", "there is no show"),
        ("/show/x", "number: not a valid value"),
        ("/?channel=nobody", "there is no channel"),
        ("/compare?emotion=joy", "there is no emotion"),
        ("/nowhere", "there is no such page"),
        ("/take/1/stretch.mp4", "mark a stretch first"),
    ],
)
def test_missing_pages_have_plain_messages(page, path, why) -> None:
    answer = page.client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code in (400, 404)
    assert why in answer.text
    assert "To the shows" in answer.text


def test_events_have_the_newest_data_and_share_one_poller(page, until) -> None:
    hub = page.context.hub
    with (
        page.client.stream("GET", "/data/live/late-night") as one,
        page.client.stream("GET", "/data/live/late-night") as two,
    ):
        lines = one.iter_lines(), two.iter_lines()
        said, same = (next(line for line in each if line.startswith("data:")) for each in lines)
        assert said == same
        # Those of tests before end soon.
        until(lambda: (hub.n_streams, len(hub._channels)) == (2, 1), what="two streams, one poller")
    body = json.loads(said.removeprefix("data:"))
    assert body["broadcast"] == page.made.show
    assert body["seconds"]["share"]["neutral"]
