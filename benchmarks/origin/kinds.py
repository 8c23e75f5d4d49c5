"""Kinds of streams by different packagers, by name, to which a source changes temporarily."""

from collections.abc import Callable
from typing import Final

from benchmarks.origin.fragments import Fragments
from benchmarks.origin.packed import Dirty, PaddedOtherwise, SoundApart, of_an_hour
from benchmarks.origin.scenarios import Scenario
from flows.demo.channel import LiveOrigin
from flows.demo.packaging import (
    Banning,
    Disguised,
    Listed,
    Packaging,
    Sealed,
    Signed,
    TablesApart,
    dirty,
    in_local_time,
    in_steps_of_three,
    of_1970,
    too_short,
    with_cues,
    with_one_absurd,
    with_parts,
    with_variables,
    without_dates,
    without_numbers,
)

_LASTS_S: Final = 12.0


def _packed(name: str, make: Callable[[LiveOrigin], Packaging]) -> Scenario:
    return Scenario(
        name=name,
        begin=lambda origin: origin.pack(make(origin)),
        lasts_s=_LASTS_S,
        end=LiveOrigin.pack,
    )


def _end_fragments(origin: LiveOrigin) -> None:
    if isinstance(origin.packaging, Fragments):
        origin.packaging.end()


def _listed(name: str, change: Callable[[str], str]) -> Scenario:
    return _packed(name, lambda _: Listed(change))


KINDS: Final = (
    _listed("without numbers", without_numbers),
    _listed("numbers in steps of three", in_steps_of_three),
    _listed("without dates", without_dates),
    _listed("dates of 1970", of_1970),
    _listed("dates in local time", in_local_time),
    _listed("lengths a tenth too short", too_short),
    _listed("one absurd length", with_one_absurd),
    _listed("dirt and spaces", dirty),
    _listed("names in a variable", with_variables),
    _listed("parts", with_parts),
    _listed("advertisements told", with_cues),
    _packed("addresses signed anew", lambda _: Signed()),
    _packed("a picture before segments", lambda _: Disguised()),
    _packed("encrypted, AES-128", lambda _: Sealed()),
    _packed("tables apart", lambda _: TablesApart()),
    _listed("a target duration of an hour", of_an_hour),
    _packed("AES-128, padded otherwise", lambda _: PaddedOtherwise()),
    _packed("a tag or dirt before segments", lambda _: Dirty()),
    _packed("audio in a rendition", SoundApart),
    _packed(
        "bans who asks too early",
        lambda origin: Banning(0.45 * origin.segment_s, 2 * origin.segment_s),
    ),
    Scenario(
        name="fMP4 among MPEG-TS",
        begin=lambda origin: origin.pack(Fragments(origin)),
        lasts_s=_LASTS_S,
        end=_end_fragments,
    ),
    Scenario(
        name="held answers",
        begin=LiveOrigin.hold,
        lasts_s=_LASTS_S,
        end=lambda origin: origin.hold(False),
    ),
    Scenario(
        name="another session (410)",
        begin=lambda origin: origin.renew_addresses(410),
        lasts_s=2,
    ),
)
