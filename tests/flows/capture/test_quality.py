import pytest

from flows.capture.quality import Offer, Quality, in_order

SIZES = {
    "160p": Offer(width_px=284, height_px=160, bandwidth=300_000, codecs="avc1,mp4a.40.2"),
    "720p": Offer(width_px=1280, height_px=720, bandwidth=3_000_000, codecs="avc1,mp4a.40.2"),
    "720p60": Offer(width_px=1280, height_px=720, fps=60, bandwidth=4_000_000, codecs="avc1"),
    "720p-hevc": Offer(width_px=1280, height_px=720, bandwidth=2_000_000, codecs="hvc1.1"),
    "480p": Offer(width_px=854, height_px=480, fps=30, bandwidth=1_000_000, codecs="avc1"),
    "1080p": Offer(width_px=1920, height_px=1080, bandwidth=6_000_000, codecs="avc1"),
    "2160p": Offer(width_px=3840, height_px=2160, bandwidth=16_000_000, codecs="avc1"),
    "portrait": Offer(width_px=720, height_px=1280, bandwidth=3_000_000, codecs="avc1"),
    "sound": Offer(bandwidth=64_000, codecs="mp4a.40.2"),
    "silent": Offer(bandwidth=64_000),
    "1 Mbit": Offer(bandwidth=1_000_000),
    "3 Mbit": Offer(bandwidth=3_000_000),
    "9 Mbit": Offer(bandwidth=9_000_000),
}


@pytest.mark.parametrize(
    ("offered", "quality", "first"),
    [
        (["160p", "720p", "1080p"], Quality(), "720p"),
        (["160p", "portrait"], Quality(), "portrait"),
        (["160p", "720p-hevc"], Quality(), "720p-hevc"),  # twenty times the pixels
        (["480p", "720p-hevc"], Quality(), "480p"),
        (["720p", "720p-hevc"], Quality(), "720p"),
        (["1080p", "2160p"], Quality(), "1080p"),
        (["160p", "720p", "2160p"], Quality(height_px=None), "2160p"),
        (["480p", "720p60"], Quality(fps=30), "480p"),
        (["480p", "720p", "1080p"], Quality(height_px=480), "480p"),
        (["sound", "1 Mbit", "3 Mbit", "9 Mbit"], Quality(), "3 Mbit"),
        (["silent", "3 Mbit", "9 Mbit"], Quality(height_px=None), "9 Mbit"),
        (["sound", "160p"], Quality(), "160p"),
    ],
)
def test_the_largest_within_the_limits_is_taken(
    offered: list[str], quality: Quality, first: str
) -> None:
    assert in_order([SIZES[name] for name in offered], quality)[0] == SIZES[first]


def test_streams_with_only_audio_are_not_chosen() -> None:
    assert in_order([SIZES["sound"]], Quality()) == []
