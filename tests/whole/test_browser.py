"""The Prefect UI in a real browser: start a show, see its picture, cancel one.

Screenshots go to `test-output/`; with SHOWMOOD_DOCS_SCREENSHOTS=1 two of them also to `docs/`.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "test-output"
SLOW_MS = 60_000


def browser_path() -> str:
    """Return the browser of this machine; without one, skip, or fail if it is required."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    why = "NO BROWSER: the Prefect UI was not tested; install Debian's package chromium"
    if os.environ.get("SHOWMOOD_REQUIRE_BROWSER"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = browser_path()
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox; it opens only our own server here.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        made = browser.new_page(viewport={"width": 1200, "height": 1150}, color_scheme="light")
        made.set_default_timeout(SLOW_MS)
        asked: dict[str, str | None] = {}
        made.on("requestfinished", lambda request: asked.update({request.url: None}))
        made.on("requestfailed", lambda request: asked.update({request.url: request.failure}))
        yield made
        browser.close()
        hosts = {urlsplit(url).netloc for url, why in asked.items() if why != "csp"} - {""}
        assert len(hosts) <= 1, f"it asked others than the server: {asked}"


def shoot(page: Page, name: str, *, docs: bool = False) -> None:
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / f"{name}.png"
    page.screenshot(path=path)
    if docs and os.environ.get("SHOWMOOD_DOCS_SCREENSHOTS"):
        shutil.copy(path, ROOT / "docs" / path.name)


def submit_form(page: Page, up: Any, *, name: str, duration: str) -> str:
    """Start `watch-show` by the form of Custom run; return the run, as soon as it is made."""

    def runs() -> dict[str, str]:
        found = up.api.post("/flow_runs/filter", json={}).raise_for_status().json()
        return {run["id"]: run["parameters"].get("name") for run in found}

    before = runs()
    page.goto(f"{up.ui_url}/deployments")
    page.get_by_role("link", name="adhoc").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    values = {"URL of the show": up.origin.url, "Channel's name": name, "How long": duration}
    for label, value in values.items():
        page.locator(".p-label").filter(has_text=label).locator("textarea").first.fill(value)
    shoot(page, "form" if name == "demo" else f"form-{name}", docs=name == "demo")
    page.get_by_role("button", name="Submit").click()

    def made() -> str | None:
        return next((run for run, of in runs().items() if run not in before and of == name), None)

    return str(up.until(made, what="the run that the form has made"))


def test_without_the_link_there_is_one_page_and_with_it_the_ui(page: Page, up: Any) -> None:
    page.goto(f"{up.ui_url}/deployments")
    page.get_by_text("showmood link").wait_for()
    shoot(page, "closed")
    assert up.cli("link").strip() == up.link
    page.goto(up.link)
    page.get_by_role("link", name="Deployments").first.wait_for()
    (cookie,) = [each for each in page.context.cookies() if each["name"].startswith("showmood-")]
    assert (cookie["sameSite"], cookie["httpOnly"]) == ("Strict", True)


def test_show_is_started_watched_and_shown(page: Page, up: Any) -> None:
    run = submit_form(page, up, name="demo", duration="20s")
    page.goto(f"{up.ui_url}/runs/flow-run/{run}")
    page.get_by_text("Running", exact=True).first.wait_for()
    shoot(page, "running")
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=2 * SLOW_MS)
    shoot(page, "completed")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.locator("a[href*='/artifacts/artifact/']", has_text="show-demo").click()
    picture = page.locator("img[src^='data:image/png;base64,']")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 400
    assert up.ended(run)["type"] == "COMPLETED"
    shoot(page, "artifact", docs=True)


def test_show_is_cancelled(page: Page, up: Any) -> None:
    run = submit_form(page, up, name="confirmed", duration="10m")
    rows = (
        "SELECT count(*) FROM segments s JOIN channels c ON c.id = s.channel_id"
        " WHERE c.slug = 'confirmed'"
    )
    up.until(lambda: up.rows(rows)[0][0] > 0, what="a segment")
    page.goto(f"{up.ui_url}/runs/flow-run/{run}")
    page.get_by_text("Running", exact=True).first.wait_for()
    page.get_by_role("button", name="Cancel").first.click()
    shoot(page, "cancel")
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    page.get_by_text("Cancelled", exact=True).first.wait_for()
    shoot(page, "cancelled")
    assert up.until(lambda: up.ended(run), what="its end")["type"] == "CANCELLED"
    assert up.rows(
        "SELECT status FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
        " WHERE c.slug = 'confirmed'"
    ) == [("cancelled",)]
