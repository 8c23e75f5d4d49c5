"""Fuzz tests of media: trees of boxes, and valid files with bytes of other files."""

import io
import struct
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import strategies as st

from emotion.media.isobmff import TooMuch, require_counts

Fuzz = Callable[..., None]
KINDS = """
moov mvhd trak tkhd mdia mdhd hdlr minf vmhd dinf dref stbl stsd stts ctts stsc stsz stz2 stco co64
stss elst edts mvex trex mehd moof mfhd traf tfhd tfdt trun sidx mdat free skip udta meta ilst iloc
iinf cmov sgpd sbgp saiz saio senc uuid wave esds avcC hvcC
"""
NUMBER = st.one_of(
    st.sampled_from([0, 1, 2, 8, 255, 65_535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 40_000_000]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
)
WORDS = st.lists(NUMBER, max_size=12).map(lambda words: struct.pack(f">{len(words)}I", *words))
KIND = st.sampled_from(KINDS.split()).map(str.encode)


def box(kind: bytes, content: bytes, said: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if said is None else said) + kind + content


LEAF = st.builds(box, KIND, st.one_of(WORDS, st.binary(max_size=60)))
ODD_SIZE = st.builds(box, KIND, st.binary(max_size=60), NUMBER)
TREE = st.recursive(
    st.one_of(LEAF, LEAF, ODD_SIZE),
    lambda inner: st.builds(box, KIND, st.lists(inner, max_size=6).map(b"".join)),
    max_leaves=24,
)
FILE = st.lists(TREE, min_size=1, max_size=5).map(
    lambda trees: box(b"ftyp", b"isom") + b"".join(trees)
)


@pytest.fixture(scope="module")
def honest() -> dict[str, bytes]:
    """A second of fMP4 and of MPEG-TS."""
    made = {}
    for kind, options in (("mp4", {"movflags": "frag_keyframe+empty_moov"}), ("mpegts", {})):
        file = io.BytesIO()
        with av.open(file, "w", format=kind, options=options) as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for n in range(10):
                picture = np.full((64, 64, 3), 20 * n, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())
        made[kind] = file.getvalue()
    return made


def test_boxes_are_counted_or_too_many(fuzz: Fuzz) -> None:
    def check(data: bytes) -> None:
        try:
            require_counts(io.BytesIO(data), len(data), most_samples=1000, most_boxes=200)
        except TooMuch:
            return

    fuzz(FILE, check, n=30)


@pytest.mark.parametrize("kind", ["boxes", "mp4", "mpegts"])
def test_media_is_read_or_refused(
    kind: str, honest: dict[str, bytes], box: Any, request: pytest.FixtureRequest, fuzz: Fuzz
) -> None:
    def check(made: bytes | list[tuple[int, bytes]]) -> None:
        data = made if isinstance(made, bytes) else changed(honest[kind], made)
        suffix = ".ts" if kind == "mpegts" else ".mp4"
        outcome = box.ask("asked_media:as_it_is", data.hex(), suffix, grow_mb=1024, within_s=60)
        assert outcome.said.startswith(("read", "refused")), outcome
        assert outcome.grew_mb < 400, outcome

    changes = st.lists(
        st.tuples(st.integers(0, 2**16), st.one_of(WORDS, st.binary(min_size=1, max_size=4))),
        min_size=1,
        max_size=4,
    )
    fuzz(FILE if kind == "boxes" else changes, check, n=12)


def changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    made = bytearray(data)
    for at, other in changes:
        at %= len(made)
        made[at : at + len(other)] = other
    return bytes(made)
