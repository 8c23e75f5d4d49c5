import time

import pytest

from flows.capture.redaction import clean, shorten
from flows.capture.segment import CaptureError

LONG = "S" * 41


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/live.m3u8", "https://a.example/live.m3u8"),
        ("https://www.youtube.com/@nasa/live", "https://www.youtube.com/@nasa/live"),
        (
            "https://www.youtube.com/watch?v=21X5lGlDOfg&sig=SECRET",
            "https://www.youtube.com/watch?v=21X5lGlDOfg",
        ),
        ("https://a.example/live.m3u8?v=SECRET", "https://a.example/live.m3u8?..."),
        ("https://a.example:8443/a?token=SECRET#SECRET", "https://a.example:8443/a?..."),
        ("https://user:SECRET@a.example/a", "https://...@a.example/a"),
        ("https://user:SEC#RET@a.example/a", "https://..."),
        ("http:\\\\user:SECRET@a.example/a", "http:a.example/a"),
        ("user:SECRET@a.example/a", "user:a.example/a"),
        ("http://[::1]:80/a;key=SECRET/b", "http://[::1]:80/a/b"),
        ("https://a.example/sig/Xy1/a.ts", "https://a.example/sig/.../a.ts"),
        ("https://a.example/hdnts=exp=1~hmac=SECRET/a.ts", "https://a.example/hdnts=.../a.ts"),
        (f"https://a.example/v1/{LONG}.m3u8", "https://a.example/v1/....m3u8"),
        ("https://a.example/1/2/3/4/5/6/7/8.ts", "https://a.example/1/2/3/.../8.ts"),
        ("https://a.example/token/...SECRET/a.ts", "https://a.example/token/.../a.ts"),
        ("https://a.example/token/SECRET.m3u8", "https://a.example/token/....m3u8"),
        ("https://a.example/\x1b[31m", "https://a.example/?..."),
    ],
)
def test_signatures_in_urls_are_removed(url: str, shown: str) -> None:
    assert shorten(url) == shown
    assert shorten(shown) == shown


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Opening 'http://a/b.ts?x=SECRET' for reading", "Opening 'http://a/b.ts?...' for reading"),
        ("http://a/b?x=SECRET: HTTP status 403", "http://a/b?...: HTTP status 403"),
        ("(http://a/b?x=SECRET), then http://c/d", "(http://a/b?...), then http://c/d"),
        ("exceeded with url: /b?x=SECRET (it is", "exceeded with url: /b?... (it is"),
        ("netloc 'user:SECRET@a' contains", "netloc '...@a' contains"),
        ("[generic] live?token=SECRET: no", "[generic] live?...: no"),
        ("[generic] live?...token=SECRET: no", "[generic] live?...: no"),
        ("at /live?...SECRET, or", "at /live?..., or"),
        ("at /live?v=21X5lGlDOfg;token=SECRET", "at /live?..."),
        ("http://a/watch?v=21X5lGlDOfg.", "http://a/watch?v=21X5lGlDOfg."),
        ("at 12:30 a/b failed? yes", "at 12:30 a/b failed? yes"),
        ("it begins with http://, or https://", "it begins with http://, or https://"),
        ("at http://a:SECRET@b/c://, or", "at http://...@b/c://, or"),
    ],
)
def test_texts_of_others_are_cleaned(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned
    assert str(CaptureError(text)) == cleaned


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("failed " + 3000 * "x" + " user:SECRET" + 2000 * "SECRET" + "@host", "failed xxx"),
        (70_000 * "a", "aaa"),
        ("https://user:" + 70_000 * "SECRET" + "@a.example/", "https://..."),
        ("https://a.example/?" + 70_000 * "SECRET", "https://a.example/?... ..."),
        ("/live?" + 70_000 * "SECRET", " ..."),
        ("at " + 9000 * "https://a.example/?token=SECRET ", "at https://a.example/?... https"),
    ],
)
def test_a_long_text_is_not_cut_inside_a_secret(text: str, begins: str) -> None:
    cleaned = clean(text)
    assert cleaned.startswith(begins)
    assert cleaned.endswith("...")
    assert len(cleaned) <= 4004
    assert "SECRET" not in cleaned


LONG_TEXTS = {
    "slashes": "/",
    "names": "a:",
    "parameters": "?a=...",
    "paths": "/?",
    "shown paths": "/?v=aaaaaaaaaaa&",
    "users": "a:b@",
    "brackets": "[:",
    "ends of sentences": "!",
    "schemes": "http://",
    "dots": ".",
    "letters": "a",
    "accents": "a\u0316\u0301",
    "questions": "?",
    "words": "a:b ",
}


@pytest.mark.parametrize("begin", ["", "http://", "http://a/", "/?a="])
@pytest.mark.parametrize("part", LONG_TEXTS.values(), ids=LONG_TEXTS)
def test_a_long_text_is_cleaned_in_linear_time(part: str, begin: str) -> None:
    text = begin + part * (60_000 // len(part)) + "x"
    began = time.process_time()
    clean(text)
    clean(text[:3900])
    shorten(text)
    assert time.process_time() - began < 10.0  # minutes, where each start looks at all that follows
