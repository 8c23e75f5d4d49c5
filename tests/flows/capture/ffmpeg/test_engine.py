from pathlib import Path

import pytest

from flows.capture.ffmpeg.command import build_arguments
from flows.capture.stream import Stream


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


NAME = "http://stream.test/0"


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


RELAYED = {"http", "tcp"}


def test_ffmpeg_reads_a_playlist_only_through_our_proxy() -> None:
    arguments = arguments_for(stream("https://cdn.example/a"), url=NAME)
    assert option(arguments, "-f") == "hls"
    assert option(arguments, "-live_start_index") == "0"
    assert set(option(arguments, "-protocol_whitelist").split(",")) == RELAYED
    assert set(option(arguments, "-format_whitelist").split(",")) == {"hls", "mpegts", "mov"}
    assert arguments.index("-protocol_whitelist") < arguments.index("-i")
    assert arguments.index("-format_whitelist") < arguments.index("-i")


@pytest.mark.parametrize(
    ("url", "protocol", "protocols", "format_"),
    [
        ("https://a.example/live.mpd", "other", "http,tcp", "dash"),
        ("https://a.example/live", "http", "http,tcp", None),
        ("rtmp://a.example/live/x", "other", "rtmp,tcp", None),
        ("rtmps://a.example/live/x", "other", "rtmp,tcp", None),
        ("rtsp://a.example/live", "other", "tcp", "rtsp"),
        ("rtsps://a.example/live", "other", "tcp", "rtsp"),
        ("srt://a.example:9", "other", "srt", None),
    ],
)
def test_other_streams_are_read_with_their_own_container(
    url: str, protocol: str, protocols: str, format_: str | None
) -> None:
    arguments = arguments_for(stream(url, protocol=protocol), url=NAME)
    assert "-live_start_index" not in arguments
    assert option(arguments, "-protocol_whitelist") == protocols
    formats = set(option(arguments, "-format_whitelist").split(","))
    assert not formats & {"concat", "sdp", "rtp", "sap", "imf", "webm_dash_manifest"}
    assert ("hls" in formats, "dash" in formats) == (False, format_ == "dash")
    assert arguments.count("-f") == (1 if format_ is None else 2)
    assert format_ is None or option(arguments, "-f") == format_


def test_address_and_headers_are_not_on_the_command_line() -> None:
    headers = (("Cookie", "SECRET"), ("User-Agent", "SECRET"))
    for protocol in ("hls", "http", "other"):
        it = stream("https://cdn.example/SECRET", protocol=protocol, headers=headers)
        assert "SECRET" not in " ".join(arguments_for(it, url=NAME))


def test_a_percent_sign_in_the_directory_is_escaped() -> None:
    arguments = arguments_for(stream("https://cdn.example/a"))
    pattern = option(arguments, "-hls_segment_filename")
    assert pattern == "/rec/100%%/0001-20261122T120000Z-%06d.ts"
    assert arguments[-1 - arguments[::-1].index("/rec/100%/0001-20261122T120000Z.m3u8")]


def test_ffmpeg_never_deletes_or_prompts() -> None:
    arguments = arguments_for(stream("https://cdn.example/a"))
    assert "delete_segments" not in " ".join(arguments)
    assert "-nostdin" in arguments
