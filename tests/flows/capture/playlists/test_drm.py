"""What is encrypted so that nothing of ours can decrypt it is named."""

import pytest

from flows.capture.playlists.drm import names_in, require_open
from flows.capture.playlists.playlist import parse_playlist
from flows.capture.segment import NotWatchable

BASE = "https://cdn.test/live.m3u8"
WIDEVINE = "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"
NAGRA = "urn:uuid:adb41c24-2dbf-4a6d-958b-4457c0d27b95"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("METHOD=SAMPLE-AES,URI=k", "SAMPLE-AES"),
        ("METHOD=AES-256,URI=k", "AES-256"),
        (f'METHOD=SAMPLE-AES-CTR,URI=k,KEYFORMAT="{WIDEVINE.upper()}"', "Widevine"),
        ('METHOD=SAMPLE-AES-CTR,URI=k,KEYFORMAT="com.microsoft.playready"', "PlayReady"),
        ('METHOD=SAMPLE-AES,URI=k,KEYFORMAT="com.apple.streamingkeydelivery"', "FairPlay"),
        ('METHOD=SAMPLE-AES-CTR,URI=k,KEYFORMAT="org.w3.clearkey"', "ClearKey"),
        (f'METHOD=AES-128,URI=k,KEYFORMAT="{NAGRA}"', "Nagra"),
        ('METHOD=AES-128,URI=k,KEYFORMAT="own.example"', "AES-128 of own.example"),
        ("URI=k", "an unknown method"),
    ],
)
def test_what_can_not_be_decrypted_is_named(key: str, says: str) -> None:
    playlist = parse_playlist(f"#EXTM3U\n#EXT-X-KEY:{key}\n#EXTINF:2,\na.ts\n", BASE)
    with pytest.raises(NotWatchable, match=f"encrypted by {says}, and cannot be watched"):
        require_open(playlist, "https://show.test/")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'<ContentProtection schemeIdUri="{WIDEVINE}"/>', ["Widevine"]),
        (f'KEYFORMAT="{NAGRA}"\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://a"', ["FairPlay", "Nagra"]),
        ("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=k", []),
    ],
)
def test_systems_are_found_in_playlists_and_manifests(text: str, names: list[str]) -> None:
    assert names_in(text) == names
