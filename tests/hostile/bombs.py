"""Generates small media files that make a reader allocate gigabytes."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def box(kind: str, *content: bytes) -> bytes:
    """Return a box of ISO BMFF (ISO/IEC 14496-12, 4.2)."""
    body = b"".join(content)
    return u32(len(body) + 8) + kind.encode() + body


AVCC = bytes.fromhex(
    "0142c01effe1001567 42c01ed900a0 5b011000003e90000bb808f162e480 01000468ce3c80"
)
MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def track(stbl: bytes, *, handler: bytes = b"vide", timescale: int = 90_000) -> bytes:
    media = box(
        "mdia",
        box("mdhd", u32(0, 0, 0, timescale, 0, 0x55C40000)),
        box("hdlr", u32(0, 0), handler, bytes(12), b"\0"),
        box(
            "minf",
            box("vmhd", u32(1, 0, 0)),
            box("dinf", box("dref", u32(0, 1), box("url ", u32(1)))),
            stbl,
        ),
    )
    tkhd = u32(7, 0, 0, 1, 0, 0, 0, 0, 0, 0) + MATRIX + u32(160 << 16, 96 << 16)
    return box("trak", box("tkhd", tkhd), media)


def described(*tables: bytes) -> bytes:
    entry = bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 160, 96) + u32(0x480000, 0x480000)
    entry += bytes(4) + b"\0\1" + bytes(32) + struct.pack(">Hh", 24, -1)
    avc1 = box("avc1", entry, box("avcC", AVCC))
    return box("stbl", box("stsd", u32(0, 1), avc1), *tables)


def movie(*tracks: bytes) -> bytes:
    head = box("mvhd", u32(0, 0, 0, 1000, 0, 0x10000, 0x1000000, 0, 0), MATRIX, bytes(24), u32(2))
    return box("ftyp", b"isom", u32(512), b"isomiso2avc1mp41") + box("moov", head, *tracks)


def one_size_of_all(n: int = 40_000_000, *, sound: int = 0, size: int = 1) -> bytes:
    """Return an MP4 file whose table of sizes has one entry, for n samples."""
    return movie(
        track(
            described(
                box("stts", u32(0, 1, n, 1)),
                box("stsc", u32(0, 1, 1, n, 1)),
                box("stsz", u32(0, size, n)),
                box("stco", u32(0, 1, 48)),
            ),
            handler=b"soun" if sound else b"vide",
        )
    ) + box("mdat", bytes(1000))


def empty_tables() -> bytes:
    return described(
        box("stts", u32(0, 0)),
        box("stsc", u32(0, 0)),
        box("stsz", u32(0, 0, 0)),
        box("stco", u32(0, 0)),
    )


def run_of_all(n: int = 40_000_000, *, size: int = 0, n_runs: int = 1) -> bytes:
    """Return a fragmented MP4 file whose run has no data for its n samples."""
    extends = box("mvex", box("trex", u32(0, 1, 1, 0, size, 0)))
    head = movie(track(empty_tables()), extends)
    runs = b"".join(box("trun", u32(0, n)) for _ in range(n_runs))
    fragment = box(
        "moof",
        box("mfhd", u32(0, 1)),
        box("traf", box("tfhd", u32(0x020000, 1)), box("tfdt", u32(0, 0)), runs),
    )
    return head + fragment + box("mdat", bytes(1000))


def deep(n: int = 100_000) -> bytes:
    """Return an MP4 file of nested containers."""
    sizes = (u32(8 * (n - i)) + b"moov" for i in range(n))
    return box("ftyp", b"isom", u32(512), b"isom") + b"".join(sizes)


def row(n: int = 30_000) -> bytes:
    """Return an MP4 file with this many empty boxes."""
    return box("ftyp", b"isom", u32(512), b"isom") + box("skip") * n


def packed(hidden: int = 0) -> bytes:
    """Return an MP4 file whose header is packed and declares 4 GB."""
    header = box(
        "cmov", box("dcom", b"zlib"), box("cmvd", u32(0xFFFFFF00), zlib.compress(bytes(10**6)))
    )
    kind = "free" if hidden else "moov"
    return box("ftyp", b"qt  ", u32(512), b"qt  ") + box(kind, header) + box("mdat", bytes(100))


def chunks_of_sound(n: int = 100) -> bytes:
    """Return an MP4 file with chunks of two billion samples of audio each."""
    tables = described(
        box("stts", u32(0, 1, 100, 1)),
        box("stsc", u32(0, 1, 1, 0x7FFFFFFF, 1)),
        box("stsz", u32(0, 1, 100)),
        box("stco", u32(0, n), u32(48) * n),
    )
    return movie(track(tables, handler=b"soun")) + box("mdat", bytes(1000))


def ten_hours(rate: int = 60) -> bytes:
    """Return the header of an MP4 file of ten hours, video and PCM sound."""
    n, n_sound = 36_000 * rate, 36_000 * 48_000
    video = described(
        box("stts", u32(0, 1, n, 1500)),
        box("stsc", u32(0, 1, 1, rate, 1)),
        box("stsz", u32(0, 0, n), u32(1000) * n),
        box("stco", u32(0, 36_000), u32(48) * 36_000),
    )
    sound = described(
        box("stts", u32(0, 1, n_sound, 1)),
        box("stsc", u32(0, 1, 1, 48_000, 1)),
        box("stsz", u32(0, 1, n_sound)),
        box("stco", u32(0, 36_000), u32(48) * 36_000),
    )
    return movie(track(video), track(sound, handler=b"soun", timescale=48_000)) + u32(0) + b"mdat"


def edits(n: int = 1_000_000) -> bytes:
    """Return an MP4 file with this many edits of a track."""
    stbl = described(
        box("stts", u32(0, 1, 10, 1)),
        box("stsc", u32(0, 1, 1, 10, 1)),
        box("stsz", u32(0, 1, 10)),
        box("stco", u32(0, 1, 48)),
    )
    made = track(stbl)
    elst = box("edts", box("elst", u32(0, n), u32(1, 0, 0x10000) * n))
    body = made[8:] + elst
    return movie(box("trak", body)) + box("mdat", bytes(1000))


def large(path: Path, width_px: int, height_px: int) -> None:
    """Write an MPEG-TS file of pictures of this size, all of one colour."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = width_px, height_px
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
        plane = np.full((height_px * 3 // 2, width_px), 128, dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def many(path: Path, n_frames: int, *, rate: int) -> None:
    """Write an MPEG-TS file of this many small pictures, at this rate."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "250"}
        frame = av.VideoFrame.from_ndarray(np.full((48, 32), 128, dtype=np.uint8), format="yuv420p")
        for number in range(n_frames):
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
