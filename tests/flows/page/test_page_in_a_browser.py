"""The page in a real browser: a click shows the clicked time.

Screenshots go to `test-output/`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from platformdirs import user_cache_path
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import text

from db.channel_lock import channel_lock
from flows.errors import UsageError
from flows.page import vendor
from flows.page.media.codecs import is_hevc
from tests.flows.page.apart import add_audio, cut_apart
from tests.flows.page.growing import make_hevc
from tests.whole.test_browser import browser_path

AXE = "axe-core-4.14.1"
HERE = Path(__file__).parent
OUTPUT = Path(__file__).resolve().parents[3] / "test-output"
SLOWLY = 1 / 16
"""Chromium's minimum playback rate."""

READY = "() => document.body.dataset.ready === '1'"


@pytest.fixture(scope="module")
def libraries() -> None:
    """The page's browser libraries; skip without them."""
    if vendor.vendored() is None:
        try:
            vendor.fetch()
        except UsageError as e:
            pytest.skip(f"NO LIBRARIES: the page was not tested in a browser; {e}")


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core; skip without it."""
    target = user_cache_path("showmood") / "page" / AXE
    if not (target / "axe.js").is_file():
        try:
            vendor.install(HERE / "axe", {"axe.js": "axe-core/axe.min.js"}, target)
        except UsageError as e:
            pytest.skip(f"NO AXE: what people can't see or reach was not looked for; {e}")
    return (target / "axe.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hevc(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("hevc") / "piece.ts"
    make_hevc(path)
    return path


@pytest.fixture(scope="module")
def tab(page, libraries) -> Iterator[Page]:
    path = browser_path()
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox; it opens only our own server here.
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        made = browser.new_page(
            viewport={"width": 1440, "height": 1200},
            color_scheme="light",
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        made.set_default_timeout(60_000)
        asked: set[str] = set()
        wrong: list[str] = []
        made.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        made.on("pageerror", lambda error: wrong.append(str(error)))
        made.goto(page.link)
        made.wait_for_url(page.root + "/")
        yield made
        browser.close()
        assert asked - {""} == {urlsplit(page.root).netloc}, "it asked others than the server"
        assert not wrong


@pytest.fixture(scope="module")
def ms(page) -> Callable[[float], int]:
    """The time of a second of the show, in ms since 1970."""
    return lambda second: round((page.made.begin.timestamp() + second) * 1000)


def shown(tab: Page) -> dict[str, Any]:
    """The shown picture: its date by the player, its second by its gray level, and the boxes."""
    return tab.evaluate(
        """() => {
            const { player, video, boxes } = window.showmood;
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 1;
            const pen = canvas.getContext("2d");
            pen.drawImage(video, 0, 0, 1, 1);
            const gray = pen.getImageData(0, 0, 1, 1).data[0];
            return { date: player.date, gray, paused: video.paused, boxes: boxes.drawn };
        }"""
    )


def second_of(gray: float) -> float:
    """Return the second encoded by a picture's gray level."""
    return ((gray * 219 / 255 + 16) - 20) / 9


def open_show(tab: Page, page: Any, query: str = "") -> None:
    tab.goto(f"{page.root}/show/{page.made.show}{query}")
    tab.wait_for_function(READY)


def wait_for_date(tab: Page, at: int, within_ms: int = 200) -> None:
    tab.wait_for_function(
        "([at, within]) => Math.abs((window.showmood.player.date ?? 0) - at) <= within",
        arg=[at, within_ms],
    )


def play_at(tab: Page, rate: float) -> None:
    """Set the playback rate: a slow one, so that a busy machine shows every frame."""
    tab.evaluate(
        "(rate) => { const { video } = window.showmood;"
        " video.defaultPlaybackRate = video.playbackRate = rate; }",
        rate,
    )


def click_at(tab: Page, at: int) -> None:
    """Click on the curves at this time."""
    box = tab.locator("#timeline .u-over").bounding_box()
    assert box
    span = tab.evaluate("() => [window.showmood.timeline.from, window.showmood.timeline.to]")
    x = box["x"] + box["width"] * (at - span[0]) / (span[1] - span[0])
    tab.mouse.click(x, box["y"] + box["height"] / 2)


@pytest.mark.parametrize(
    ("second", "of_clip"),
    [(3.5, 3), (9.5, 9), (21.5, 3), (28.5, 10)],
    ids=["ts", "ts-2", "mp4", "mp4-2"],
)
def test_the_link_of_a_time_shows_it(tab, page, ms, second, of_clip) -> None:
    open_show(tab, page, f"?at={ms(second)}")
    wait_for_date(tab, ms(second))
    tab.wait_for_function("() => window.showmood.video.readyState >= 2")
    seen = shown(tab)
    assert abs(seen["date"] - ms(second)) <= 200
    assert second_of(seen["gray"]) == pytest.approx(of_clip, abs=0.6)


def test_a_click_plays_from_there_across_segments(tab, page, ms) -> None:
    open_show(tab, page)
    play_at(tab, SLOWLY)
    click_at(tab, ms(5.5))
    wait_for_date(tab, ms(5.5), 400)
    play_at(tab, 1)
    played = tab.wait_for_function(
        """(at) => {
            const { player, video } = window.showmood;
            if (player.date < at) return null;
            const played = !video.paused;
            video.pause();
            return { played };
        }""",
        arg=ms(6.6),
    )
    assert played.evaluate("seen => seen.played")
    seen = shown(tab)
    at_s = (seen["date"] - ms(0)) / 1000
    assert second_of(seen["gray"]) == pytest.approx(int(at_s), abs=1.1)
    # Playback continues after the gap: a discontinuity, and another format.
    play_at(tab, 0.25)
    click_at(tab, ms(11.2))
    wait_for_date(tab, ms(19), 1000)


def test_boxes_are_the_rows_of_the_frame(tab, page, ms) -> None:
    open_show(tab, page, f"?at={ms(7.21)}")
    wait_for_date(tab, ms(7.2))
    tab.wait_for_function("() => window.showmood.boxes.drawn.length > 0")
    seen = shown(tab)
    with page.made.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT track, x0, y0, x1 - x0 AS w, y1 - y0 AS h, emotion FROM emotion_history"
                " WHERE broadcast_id = :show AND ts = to_timestamp(:at) ORDER BY track"
            ),
            {"show": page.made.show, "at": seen["boxes"][0]["at"] / 1000},
        ).all()
    assert abs(seen["boxes"][0]["at"] - seen["date"]) <= 200
    assert [each["track"] for each in seen["boxes"]] == [row.track for row in rows]
    assert [each["emotion"] for each in seen["boxes"]] == [row.emotion for row in rows]
    for each, row in zip(seen["boxes"], rows, strict=True):
        assert each["box"] == pytest.approx([row.x0, row.y0, row.w, row.h], abs=3)
    tab.screenshot(path=OUTPUT / "page-show.png")


def test_a_missing_time_shows_the_reason(tab, page, ms) -> None:
    open_show(tab, page, f"?at={ms(14)}")
    tab.get_by_text("Not recorded: the source answered 503").wait_for()


def test_the_timeline_zooms_and_fetches_each_chunk_once(tab, page) -> None:
    open_show(tab, page)
    asked: list[str] = []
    note = partial(lambda request: asked.append(urlsplit(request.url).path))
    tab.on("request", note)
    for key in ("+", "+", "-", "-", "0", "+"):
        tab.keyboard.press(key)
    tab.wait_for_function(
        "() => window.showmood.timeline.to - window.showmood.timeline.from < 20000"
    )
    tab.remove_listener("request", note)
    chunks = [path for path in asked if path.startswith("/data/show/")]
    assert len(chunks) == len(set(chunks))
    tab.wait_for_function("() => new URLSearchParams(location.search).has('view')")


def test_a_stretch_is_kept_and_released_by_keyboard(tab, page, ms) -> None:
    open_show(tab, page, f"?at={ms(3)}")
    wait_for_date(tab, ms(3))
    tab.keyboard.press("m")
    for _ in range(4):
        before = tab.evaluate("() => window.showmood.player.date")
        tab.keyboard.press("ArrowRight")
        wait_for_date(tab, round(before) + 1000, 300)
    tab.keyboard.press("m")
    tab.locator("#marked").wait_for()
    with tab.expect_response("**/kept") as answer:
        tab.keyboard.press("k")
    assert answer.value.status == 201
    tab.goto(f"{page.root}/kept")
    tab.screenshot(path=OUTPUT / "page-kept.png")
    button = tab.get_by_role("button", name="Release")
    button.focus()
    with tab.expect_response("**/kept/*") as answer:
        tab.keyboard.press("Enter")
    assert answer.value.status == 204
    tab.keyboard.press("?")
    tab.get_by_role("dialog").wait_for()
    tab.keyboard.press("Escape")


def test_a_search_leads_to_the_picture(tab, page) -> None:
    query = "channel=late-night&emotion=neutral&above=0.3&for=2&since=2026-11-20&until=2026-11-20"
    tab.goto(f"{page.root}/search?{query}")
    tab.wait_for_function("() => [...document.images].some((image) => image.naturalWidth > 100)")
    tab.screenshot(path=OUTPUT / "page-search.png")
    tab.locator(".found a").last.click()
    tab.wait_for_function(READY)
    tab.wait_for_function(
        "() => window.showmood.player.date !== null && !window.showmood.video.paused"
    )
    tab.locator("#marked").wait_for()


def test_a_show_on_air_grows_and_live_seeks_to_the_edge(tab, page, growing) -> None:
    show = growing("on-air", [each.path for each in page.made.segments[:6]])
    show.grow(3)
    with channel_lock(page.made.engine, "on-air", "a test"):
        tab.goto(f"{page.root}/show/{show.show}")
        tab.wait_for_function(READY)
        tab.locator("#on-air").wait_for()
        tab.wait_for_function("() => window.showmood.player.date !== null")
        show.grow()
        until = round(show.until.timestamp() * 1000)
        tab.wait_for_function(
            "(at) => window.showmood.meta.until === at && window.showmood.timeline.to >= at",
            arg=until,
        )
        tab.wait_for_function("() => window.showmood.player.fragments.length === 4")
        play_at(tab, SLOWLY)
        tab.keyboard.press("Home")
        tab.locator("#to-live").wait_for()
        wait_for_date(tab, until - 8000, 1500)
        play_at(tab, 1)
        show.grow()
        tab.locator("#to-live").click()
        tab.wait_for_function(
            "(at) => window.showmood.player.date >= at && !window.showmood.video.paused",
            arg=until - 2000,
        )
        tab.locator("#to-live").wait_for(state="hidden")
        show.end()
        tab.locator("#on-air").wait_for(state="hidden")


def test_separate_audio_is_played(tab, page, growing, tmp_path) -> None:
    pictures, audio = cut_apart(tmp_path / "cut", "ts")
    show = growing("heard", pictures)
    show.grow(len(pictures))
    add_audio(show, audio[:2])  # the others are silent, and played
    show.end()
    begin = round(show.begin.timestamp() * 1000)
    tab.goto(f"{page.root}/show/{show.show}?at={begin + 3000}")
    tab.wait_for_function(READY)
    tab.evaluate("() => window.showmood.video.play()")
    tab.wait_for_function("() => window.showmood.video.webkitAudioDecodedByteCount > 0")
    wait_for_date(tab, begin + 5500, 500)


def test_hevc_is_reported_and_a_clip_offered(tab, page, growing, hevc) -> None:
    show = growing("hevc", [hevc])
    show.grow()
    tab.goto(f"{page.root}/show/{show.show}")
    tab.wait_for_function(READY)
    tab.get_by_text("The picture is HEVC, which this browser does not play.").wait_for()
    tab.screenshot(path=OUTPUT / "page-hevc.png")
    with tab.expect_download() as taken:
        tab.get_by_role("link", name="Take 2 s as MP4").click()
    assert is_hevc(Path(taken.value.path()).rename(hevc.with_name("taken.mp4")))


def test_pinch_zooms(tab, page) -> None:
    open_show(tab, page)
    span = "() => window.showmood.timeline.to - window.showmood.timeline.from"
    before = tab.evaluate(span)
    box = tab.locator("#timeline .u-over").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = tab.context.new_cdp_session(tab)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, apart in (("touchStart", 50), ("touchMove", 100), ("touchMove", 200)):
        points = [{"x": x + side * apart, "y": y, "id": side} for side in (0, 1)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
    session.detach()
    tab.wait_for_function(f"(most) => ({span})() < most", arg=before / 3)


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/show/{show}", "/search?emotion=fear", "/compare", "/kept"])
def test_every_page_fits_and_axe_finds_nothing(tab, page, axe, path, scheme, width) -> None:
    tab.set_viewport_size({"width": width, "height": 1200})
    tab.emulate_media(color_scheme=scheme)
    tab.goto(page.root + path.format(show=page.made.show))
    assert tab.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    if (width, scheme) in ((1440, "light"), (390, "dark")):
        tab.evaluate(axe)
        found = tab.evaluate("() => axe.run()")
        assert [said(each) for each in found["violations"]] == []


def said(violation: dict[str, Any]) -> str:
    places = "; ".join(node["html"][:120] for node in violation["nodes"][:5])
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {places}"
