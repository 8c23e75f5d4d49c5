"""Audio that has a playlist of its own: the renditions of a master playlist (RFC 8216, 4.3.4.1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendition:
    """A rendition of audio. url: of its media playlist; empty: it is in the variants' segments."""

    group: str
    language: str
    name: str
    url: str
    is_default: bool
    is_chosen: bool


def rendition_of(said: Mapping[str, str], url: str) -> Rendition:
    """Return what an EXT-X-MEDIA of audio says. url: its URI, absolute."""
    return Rendition(
        group=said.get("GROUP-ID", ""),
        language=said.get("LANGUAGE", ""),
        name=said.get("NAME", ""),
        url=url,
        is_default=said.get("DEFAULT") == "YES",
        is_chosen=said.get("AUTOSELECT") == "YES",
    )


def choose_audio(renditions: Iterable[Rendition], *, group: str, language: str) -> Rendition | None:
    """Return the rendition of a group to record; None where there is none.

    language: as RFC 5646 has it; empty: as the source would have it. One that is not there is as
    if none were named.
    """
    there = [each for each in renditions if each.group == group]
    wanted = language.lower()

    def order(each: Rendition) -> tuple[int, bool, bool]:
        return _likeness(each.language.lower(), wanted), each.is_default, each.is_chosen

    return max(there, key=order, default=None)  # the first of equals


def _likeness(found: str, wanted: str) -> int:
    """Return 3 for a language itself, 2 for a kind of it, 1 for another kind, 0 for others."""
    if not wanted or not found:
        return 0
    if found == wanted:
        return 3
    if found.startswith(f"{wanted}-") or wanted.startswith(f"{found}-"):
        return 2
    return int(found.partition("-")[0] == wanted.partition("-")[0])
