from pathlib import Path

import pytest

from flows.capture.command import build_arguments
from flows.capture.source import Stream


def stream(url: str, **options: object) -> Stream:
    values = {
        "page_url": url,
        "url": url,
        "protocol": "hls",
        "live": True,
        "live_status": "is_live",
        "source_id": "x",
        "title": "x",
    }
    return Stream(**(values | options))


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def arguments_for(it: Stream, **options: object) -> list[str]:
    values = {
        "ffmpeg_path": "/bin/ffmpeg",
        "directory": Path("/rec/100%"),
        "run": "0001-20261122T120000Z",
        "segment_s": 2.0,
    }
    return build_arguments(it, str(options.pop("url", it.url)), **(values | options))


def test_a_playlist_is_read_as_one_and_can_open_nothing_but_the_network() -> None:
    arguments = arguments_for(stream("https://cdn.example/a"), start_index=-3)
    assert option(arguments, "-f") == "hls"
    assert option(arguments, "-live_start_index") == "-3"
    protocols = option(arguments, "-protocol_whitelist").split(",")
    assert set(protocols) == {"http", "https", "httpproxy", "tcp", "tls", "crypto"}
    assert arguments.index("-protocol_whitelist") < arguments.index("-i")


def test_other_streams_are_read_as_what_they_are() -> None:
    arguments = arguments_for(stream("rtmp://a.example/live", protocol="other"))
    assert "-live_start_index" not in arguments
    assert arguments.count("-f") == 1
    assert option(arguments, "-protocol_whitelist") == "rtmp,tcp"
    assert "-http_proxy" not in arguments


@pytest.mark.parametrize("protocol", ["hls", "other"])
def test_all_that_comes_over_http_comes_through_the_proxy(protocol: str) -> None:
    it = stream("https://cdn.example/a", protocol=protocol)
    arguments = arguments_for(it, proxy="http://127.0.0.1:9")
    assert option(arguments, "-http_proxy") == "http://127.0.0.1:9"
    assert arguments.index("-http_proxy") < arguments.index("-i")
    protocols = set(option(arguments, "-protocol_whitelist").split(","))
    assert protocols == {"http", "https", "httpproxy", "tcp", "tls", "crypto"}


def test_headers_go_with_http_only_and_none_that_tells_something() -> None:
    headers = (("Cookie", "SECRET"), ("Authorization", "SECRET"), ("User-Agent", "x"))
    it = stream("https://cdn.example/a", headers=headers)
    assert option(arguments_for(it), "-headers") == "User-Agent: x\r\n"
    assert "-headers" not in arguments_for(it, url="http://stream.test/0")
    other = stream("rtmp://a.example/live", protocol="other", headers=headers)
    assert "-headers" not in arguments_for(other)


def test_a_percent_sign_in_the_directory_stays_one() -> None:
    arguments = arguments_for(stream("https://cdn.example/a"))
    pattern = option(arguments, "-hls_segment_filename")
    assert pattern == "/rec/100%%/0001-20261122T120000Z-%06d.ts"
    assert arguments[-1 - arguments[::-1].index("/rec/100%/0001-20261122T120000Z.m3u8")]


def test_nothing_is_ever_deleted_or_asked() -> None:
    arguments = arguments_for(stream("https://cdn.example/a"))
    assert "delete_segments" not in " ".join(arguments)
    assert "-nostdin" in arguments
