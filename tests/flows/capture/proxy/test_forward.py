"""What ffmpeg gets of an rtmp or srt address."""

import ipaddress

import pytest

from flows.capture.ffmpeg.inputs import open_input
from flows.capture.net.address import AddressPolicy
from flows.capture.proxy.forward import rtmp_options
from flows.capture.stream import Stream


@pytest.mark.parametrize(
    ("path", "app", "name"),
    [
        ("/live/key", "live", "key"),
        ("/live/key?token=a/b", "live/key?token=a", "b"),
        ("/app/instance/key", "app/instance", "key"),
        ("/app/mp4:a/b.mp4", "app", "mp4:a/b.mp4"),
        ("/app/a.mp4", "app", "mp4:a.mp4"),
        ("/app/a.flv", "app", "a"),
        ("/ondemand/a/b", "ondemand", "a/b"),
    ],
)
def test_an_rtmp_path_is_split_as_ffmpeg_does(path: str, app: str, name: str) -> None:
    assert rtmp_options(path) == {"rtmp_app": app, "rtmp_playpath": name}


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("rtmp://127.0.0.1:9/live/KEY", {"rtmp_app": "live", "rtmp_playpath": "KEY"}),
        (
            "srt://127.0.0.1:9?streamid=a%20b&passphrase=KEY",
            {"srt_streamid": "a b", "passphrase": "KEY"},
        ),
    ],
)
def test_a_key_is_not_in_the_url_that_ffmpeg_logs(path: str, options: dict[str, str]) -> None:
    policy = AddressPolicy(allow_origins=((ipaddress.ip_address("127.0.0.1"), 9),))
    stream = Stream(
        page_url="camera:a",
        url=path,
        protocol="other",
        live=True,
        live_status=None,
        source_id="camera:a",
        title="a",
    )
    opened = open_input(stream, policy)
    opened.close()
    assert opened.options == options
    assert "KEY" not in opened.url + repr(opened)
