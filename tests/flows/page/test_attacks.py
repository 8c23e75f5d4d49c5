"""Ten attacks on the page, and access without the link."""

import contextlib
import json
import re
import socket
from urllib.parse import quote

import httpx
import pytest

from flows.errors import UsageError
from flows.page.app import CONTENT
from flows.page.serving import check
from flows.settings import Settings
from tests.flows.page.conftest import QUOTES, SCRIPT


def stranger(page, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=page.root, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/show/1",
        "/data/show/1",
        "/media/1/0.ts",
        "/static/page.css",
        "/vendor/hls.js",
        "/kept",
    ],
)
def test_who_has_no_link_gets_nothing(page, path) -> None:
    with stranger(page) as client:
        answer = client.get(path)
        assert (answer.status_code, "Late" in answer.text) == (401, False)
        assert client.get("/login/guessed").status_code == 401
        assert client.post("/kept", json={}).status_code == 401


def test_1_a_foreign_host_is_refused(page) -> None:
    answer = page.client.get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert "set-cookie" not in answer.headers


def test_2_other_sites_change_nothing(page) -> None:
    wanted = {"show": page.made.show, "begin": 1, "end": 2000}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert page.client.post("/kept", json=wanted, headers=headers).status_code == 403
        assert page.client.delete("/kept/1", headers=headers).status_code == 403
    form = page.client.post("/kept", data={"show": "1"})
    assert form.status_code == 415
    text = json.dumps(wanted)
    plain = page.client.post("/kept", content=text, headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415


@pytest.mark.parametrize(
    "path",
    [
        "/media/{show}/../../../etc/passwd",
        "/media/{show}/..%2f..%2f..%2fetc%2fpasswd",
        "/media/{show}/%2e%2e/events.jsonl",
        "/media/{show}/events.jsonl",
        "/media/{show}/0001-20261120T190000Z-000000.ts",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2fsettings.py",
        "/vendor/..%2fapp.py",
        "/still/{show}/..%2f1.jpg",
    ],
)
def test_3_no_path_leads_out(page, path) -> None:
    with socket.create_connection(("127.0.0.1", int(page.root.rpartition(":")[2]))) as sent:
        cookie = "; ".join(f"{name}={value}" for name, value in page.client.cookies.items())
        host = page.root.removeprefix("http://")
        target = path.format(show=page.made.show)
        sent.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        answer = b""
        while part := sent.recv(65536):
            answer += part
    assert answer.split()[1] in (b"404", b"400"), answer[:200]
    assert b"root:" not in answer
    assert b"import" not in answer


def test_4_a_channel_named_script_is_text(page) -> None:
    answer = page.client.get("/")
    assert SCRIPT not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert answer.headers["content-security-policy"] == CONTENT
    assert "script-src 'self';" in CONTENT
    assert not re.search(r"<script(?![^>]*\bsrc=)|<\w+[^<>]*\son\w+=", answer.text)
    assert page.client.get("/", params={"channel": SCRIPT}).status_code == 200
    for path in (f"/search?channel={quote(SCRIPT)}", f"/compare?channel={quote(SCRIPT)}"):
        assert SCRIPT not in page.client.get(path).text


def test_5_a_title_with_quotes_stays_in_its_place(page) -> None:
    for path in (f"/show/{page.made.quoted}", "/", f"/show/{page.made.quoted}/table"):
        said = page.client.get(path).text
        assert "<img" not in said
        assert "onerror=alert(1)&gt; &#39;quoted&#39; &#34;twice&#34;" in said
    assert page.client.get(f"/data/show/{page.made.quoted}").json()["show"] == QUOTES


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("bytes=0-", 206),
        ("bytes=99999999999999999999-", 416),
        ("bytes=-0", 416),
        ("bytes=5-2", 400),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(5000)), None),
        ("bytes=0-" + "9" * 400, 206),
        ("lines=1-2", 400),
    ],
)
def test_6_an_absurd_range_is_answered_shortly(page, said, status) -> None:
    whole = page.made.segments[0].path.stat().st_size
    answer = page.client.get(f"/media/{page.made.show}/0.ts", headers={"Range": said})
    if status is not None:
        assert answer.status_code == status
    assert answer.status_code < 500
    assert len(answer.content) <= whole + 1_000_000


def test_7_a_thousand_streams_are_too_many(page) -> None:
    limits = httpx.Limits(max_connections=100)
    with (
        contextlib.ExitStack() as stack,
        httpx.Client(
            base_url=page.root,
            cookies=page.client.cookies,
            trust_env=False,
            limits=limits,
            timeout=60,
        ) as client,
    ):
        refused = 0
        for _ in range(60):
            answer = stack.enter_context(client.stream("GET", "/data/live/late-night"))
            refused += answer.status_code == 503
        assert refused >= 20
        assert page.context.hub.n_streams <= 40
        assert len(page.context.hub._channels) == 1
        assert page.client.get("/").status_code == 200


def test_8_a_slow_reader_does_not_block_others(page) -> None:
    """Otherwise readers that never read would block the server."""
    port = int(page.root.rpartition(":")[2])
    cookie = "; ".join(f"{name}={value}" for name, value in page.client.cookies.items())
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            slow.sendall(
                f"GET /media/{page.made.show}/6.mp4 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                f"Cookie: {cookie}\r\n\r\n".encode()
            )
        for _ in range(10):
            assert page.client.get(f"/data/show/{page.made.show}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/data/show/{show}/1/99999999999999999999999",
        "/data/show/{show}/1/-99999999999",
        "/data/show/{show}/60/99999999",
        "/data/show/{show}/7/1",
        "/data/show/{show}/faces/9999999999999",
        "/take/{show}/stretch.csv?from=0&to=99999999999999",
        "/take/{show}/stretch.vtt?from=-62135596800000&to=-62135596799000",
        "/take/{show}/stretch.mp4?from=-1e9&to=99999999999999999999999",
        "/take/{show}/stretch.svg?from=5&to=5",
        "/still/{show}/99999999999999999999.jpg",
        "/show/{show}/table?from=99999999999999999999",
        "/?skip=99999999999999999999999999",
        "/data/compare?emotion=anger&show=" + "9" * 40,
    ],
)
def test_9_a_huge_zoom_is_no_server_error(page, path) -> None:
    answer = page.client.get(path.format(show=page.made.show))
    assert answer.status_code in (200, 400, 404), answer.text
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    "evil",
    ["'; DROP TABLE segments; --", "x' OR '1'='1", "%s", ":channel", "\\", "\0", "{0}", "é" * 300],
)
@pytest.mark.parametrize("field", ["channel", "emotion", "zone", "above", "since", "days"])
def test_10_sql_in_a_search_is_plain_text(page, field, evil) -> None:
    query = {"channel": "late-night", "emotion": "anger"} | {field: evil}
    answer = page.client.get("/search", params=query)
    assert answer.status_code == 400
    assert 'id="sql"' not in answer.text


def test_10_a_channel_with_quotes_is_quoted_in_the_sql(page) -> None:
    from datetime import UTC, datetime

    from flows.page.reading.search import as_sql, parse

    name = "o'brien'; DROP TABLE segments; --"
    sql = as_sql(parse({"channel": name, "emotion": "fear"}, [name], datetime.now(UTC)))
    assert "channel = 'o''brien''; DROP TABLE segments; --'" in sql


def test_it_listens_on_other_addresses_only_with_a_password(tmp_path) -> None:
    with pytest.raises(UsageError, match="SHOWMOOD_PAGE_PASSWORD"):
        check(Settings(home=tmp_path, page_listen="0.0.0.0"))
    check(Settings(home=tmp_path, page_listen="0.0.0.0", page_password="long enough to be one"))
