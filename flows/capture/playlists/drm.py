"""Names of the encryptions that nothing of ours can decrypt."""

from typing import Final

from flows.capture.playlists.entries import Key
from flows.capture.playlists.playlist import Playlist
from flows.capture.segment import NotWatchable

_FAIRPLAY: Final = "com.apple.streamingkeydelivery"
_SYSTEMS: Final = {
    _FAIRPLAY: "FairPlay",
    "skd://": "FairPlay",
    "94ce86fb-07ff-4f43-adb8-93d2fa968ca2": "FairPlay",
    "com.microsoft.playready": "PlayReady",
    "9a04f079-9840-4286-ab92-e65be0885f95": "PlayReady",
    "com.widevine": "Widevine",
    "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed": "Widevine",
    "org.w3.clearkey": "ClearKey",
    "e2719d58-a985-b3c9-781a-b030af78d30e": "ClearKey",
    "1077efec-c0b2-4d02-ace3-3c1e52e2fb4b": "ClearKey",
    "3d5e6d35-9b9a-41e8-b843-dd3c6e72c42c": "WisePlay",
    "adb41c24-2dbf-4a6d-958b-4457c0d27b95": "Nagra",
    "9a27dd82-fde2-4725-8cbc-4234aa06ec09": "Verimatrix",
    "5e629af5-38da-4063-8977-97ffbd9902d4": "Marlin",
}
"""By what a KEYFORMAT or a DASH manifest's schemeIdUri has in it (dashif.org/identifiers)."""


def names_in(text: str) -> list[str]:
    """Return the names of the systems that a playlist or manifest names."""
    lower = text.lower()
    return sorted({name for sign, name in _SYSTEMS.items() if sign in lower})


def require_open(playlist: Playlist, page_url: str) -> None:
    """Raise NotWatchable if no segment can be decrypted."""
    keys = {entry.key for entry in playlist.entries}
    closed = sorted({_name_of(key) for key in keys if key is not None and not key.can_decrypt})
    if closed and all(key is not None and not key.can_decrypt for key in keys):
        raise NotWatchable(f"{page_url}: encrypted by {', '.join(closed)}, and cannot be watched")


def _name_of(key: Key) -> str:
    method = key.method[:40] or "an unknown method"
    other = "" if key.form == "identity" else f" of {key.form[:60]}"
    return next(iter(names_in(key.form)), f"{method}{other}")
