"""The page in a real browser: the moment that is clicked is the moment that is shown.

Screenshots go to `test-output/`.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import text

from flows.errors import UsageError
from flows.page import vendor
from tests.whole.test_browser import browser_path

OUTPUT = Path(__file__).resolve().parents[3] / "test-output"
READY = "() => document.body.dataset.ready === '1'"


@pytest.fixture(scope="module")
def libraries() -> None:
    """What the page stands on in a browser; without it, skip loudly."""
    if vendor.vendored() is None:
        try:
            vendor.fetch()
        except UsageError as e:
            pytest.skip(f"NO LIBRARIES: the page was not tested in a browser; {e}")


@pytest.fixture(scope="module")
def tab(page, libraries) -> Iterator[Page]:
    path = browser_path()
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox; all that it opens here is our own server.
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
        made.set_default_timeout(20_000)
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
    """What the picture says: its date by the player, and its second by its gray; and the boxes."""
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
    """Return the second that a picture's gray tells."""
    return ((gray * 219 / 255 + 16) - 20) / 9


def open_show(tab: Page, page: Any, query: str = "") -> None:
    tab.goto(f"{page.root}/show/{page.made.show}{query}")
    tab.wait_for_function(READY)


def wait_for_date(tab: Page, at: int, within_ms: int = 200) -> None:
    tab.wait_for_function(
        "([at, within]) => Math.abs((window.showmood.player.date ?? 0) - at) <= within",
        arg=[at, within_ms],
    )


def click_at(tab: Page, at: int) -> None:
    """Click on the curves, where that moment is."""
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
def test_the_link_of_a_moment_shows_it(tab, page, ms, second, of_clip) -> None:
    open_show(tab, page, f"?at={ms(second)}")
    wait_for_date(tab, ms(second))
    tab.wait_for_function("() => window.showmood.video.readyState >= 2")
    seen = shown(tab)
    assert abs(seen["date"] - ms(second)) <= 200
    assert second_of(seen["gray"]) == pytest.approx(of_clip, abs=0.6)


def test_a_click_plays_that_moment_and_goes_on_across_segments(tab, page, ms) -> None:
    open_show(tab, page)
    click_at(tab, ms(5.5))
    wait_for_date(tab, ms(5.5), 400)
    wait_for_date(tab, ms(6.6), 300)
    seen = shown(tab)
    assert not seen["paused"]
    tab.evaluate("() => window.showmood.video.pause()")
    seen = shown(tab)
    at_s = (seen["date"] - ms(0)) / 1000
    assert second_of(seen["gray"]) == pytest.approx(int(at_s), abs=1.1)
    # From the last frame before the gap it goes on after it: a discontinuity, and another form.
    click_at(tab, ms(11.2))
    wait_for_date(tab, ms(18.5), 400)


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


def test_a_moment_that_is_missing_says_why(tab, page, ms) -> None:
    open_show(tab, page, f"?at={ms(14)}")
    tab.get_by_text("Not recorded: the source answered 503").wait_for()


def test_the_timeline_zooms_and_asks_for_each_chunk_once(tab, page) -> None:
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


def test_by_the_keyboard_alone_a_stretch_is_kept_and_let_go(tab, page, ms) -> None:
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
    button = tab.get_by_role("button", name="Let go")
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
    assert tab.locator("#marked").is_visible()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/show/{show}", "/search?emotion=fear", "/compare", "/kept"])
def test_every_page_fits_and_is_named_for_those_who_cannot_see(
    tab, page, path, scheme, width
) -> None:
    tab.set_viewport_size({"width": width, "height": 1200})
    tab.emulate_media(color_scheme=scheme)
    tab.goto(page.root + path.format(show=page.made.show))
    assert tab.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, svg[role], canvas, img")]
            .filter((each) => !each.closest("[aria-hidden], media-controller") && !each.hidden
                && each.type !== "hidden" && each.tagName !== "IMG"
                && !(each.ariaLabel || each.textContent.trim() || each.labels?.length
                    || each.title)).map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    assert tab.evaluate(CONTRAST) == []
    ids = tab.evaluate("() => [...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids)), json.dumps(ids)


CONTRAST = """() => {
    const parse = (said) => {
        const made = document.createElement("canvas");
        const context = made.getContext("2d", { willReadFrequently: true });
        context.fillStyle = said;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = (each) => {
        for (let at = each; at; at = at.parentElement) {
            const rgb = parse(getComputedStyle(at).backgroundColor);
            if (rgb[3] === 255) return rgb;
        }
        return [255, 255, 255, 255];
    };
    const weak = [];
    for (const each of document.querySelectorAll("body *")) {
        const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !each.checkVisibility({ opacityProperty: true })) continue;
        if (each.closest(".hidden, .skip, .missing, .toast, [disabled], dialog, script")) continue;
        const style = getComputedStyle(each);
        const [a, b] = [light(parse(style.color)), light(ground(each))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) weak.push(`${each.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return weak;
}"""
"""Text that stands out too little from its ground: WCAG 2.2, 1.4.3."""
