"""Missing audio is filled with silence in the codec of the audio around it."""

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from flows.capture.processes import find_ffmpeg
from flows.page.media.with_audio import _Silence

CODED = {
    "aac.ts": "aac",
    "aac.mp4": "aac",
    "mp2.ts": "mp2",
    "mp3.ts": "libmp3lame",
    "ac3.ts": "ac3",
    "eac3.mp4": "eac3",
    "opus.mp4": "libopus",
}
LENGTH_S = 0.5


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a tone in each codec."""
    folder = tmp_path_factory.mktemp("coded")
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "sine=300:sample_rate=48000"]
    for name, encoder in CODED.items():
        command += ["-t", "1", "-ac", "2", "-c:a", encoder, str(folder / name)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize("name", CODED)
def test_missing_audio_is_silence_in_its_own_codec(name: str, coded: Path) -> None:
    with av.open(str(coded / name)) as container:
        stream = container.streams.audio[0]
        heard = list(container.decode(stream))
        assert max(np.abs(frame.to_ndarray()).max() for frame in heard) > 0.05
        stream.codec_context.flush_buffers()
        packets = _Silence(stream).between(3.0, 3.0 + LENGTH_S)
        silent = [frame for packet in packets for frame in stream.codec_context.decode(packet)]
    # The first frames still hold what the decoder keeps of the tone.
    assert max(np.abs(frame.to_ndarray()).max() for frame in silent[3:]) < 0.001
    length_s = sum(frame.samples for frame in silent) / 48_000
    assert abs(length_s - LENGTH_S) < 0.05
    ends = [float((packet.pts + packet.duration) * packet.time_base) for packet in packets]
    starts = [float(packet.pts * packet.time_base) for packet in packets]
    assert np.allclose(starts[1:], ends[:-1], atol=0.001)
