from typing import Any

import deno
import pytest
import yt_dlp

from flows.capture.source.ytdlp.refusals import advice, kind_of
from flows.capture.source.ytdlp.site_options import find_js_runtimes


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Sign in to confirm you’re not a bot", "bot check"),
        ("Got HTTP Error 403 caused by Cloudflare anti-bot challenge", "bot check"),
        ("This video is DRM protected", "drm"),
        ("Join this channel to get access to members-only content", "members only"),
        ("This video is available to this channel's members on level: Fan", "members only"),
        ("The channel is for subscribers only: a subscription is needed", "members only"),
        ("Sign in to confirm your age. This video may be inappropriate", "login"),
        ("Private video. Sign in if you've been granted access to this video", "login"),
        ("This content is only available for registered users", "login"),
        ("You need to log in to access this content", "login"),
        ("The uploader has not made this video available in your country", "geo block"),
        ("This video is not available from your location due to geo restriction", "geo block"),
        ("This content is available in Germany only", "geo block"),
        ("Unable to extract title", None),
        ("The requested site is known to be slow", None),
    ],
)
def test_refusals_of_a_site_are_recognised_by_their_message(said: str, kind: str | None) -> None:
    assert kind_of(said) == kind
    if kind is not None:
        line = advice(kind, said, "www.site.test")
        assert ("sources.toml" in line) == (kind != "drm")
        assert "\n" not in line


def test_pages_that_need_no_javascript_are_read_without_deno(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> str:
        raise FileNotFoundError("/nowhere/bin/deno")

    monkeypatch.setattr(deno, "find_deno_bin", missing)
    options: dict[str, Any] = {"quiet": True, "js_runtimes": find_js_runtimes()}
    with yt_dlp.YoutubeDL(options) as reader:
        assert "deno" in reader.params["js_runtimes"]
