"""The operator's settings for a site in yt-dlp's terms: options, plugins, headers."""

from typing import Any, Final

import deno  # type: ignore[import-untyped]
import yt_dlp.plugins
from yt_dlp import globals as yt_dlp_globals
from yt_dlp.networking import _requests, _urllib
from yt_dlp.networking.impersonate import ImpersonateTarget

from flows.capture.headers import SiteHeaders

_MAX_WARNINGS: Final = 20
_MAX_TEXT_CHARS: Final = 500


def options_of(question: dict[str, Any]) -> dict[str, Any]:
    """Return yt-dlp's options for a question."""
    options: dict[str, Any] = {}
    if question.get("user_agent"):
        options["http_headers"] = {"User-Agent": question["user_agent"]}
    if question.get("netrc"):
        options |= {"usenetrc": True, "netrc_location": question["netrc"]}
    if question.get("extractor_arguments"):
        options["extractor_args"] = question["extractor_arguments"]
    if question.get("impersonate"):
        options["impersonate"] = ImpersonateTarget.from_str(question["impersonate"])
    return options


def find_js_runtimes() -> dict[str, dict[str, str]]:
    """Return yt-dlp's option for the JavaScript runtime that YouTube needs.

    If the `deno` wheel's program was not installed, yt-dlp looks for one on PATH; other pages are
    read without.
    """
    try:
        return {"deno": {"path": str(deno.find_deno_bin())}}
    except FileNotFoundError:
        return {"deno": {}}


def load_plugins(folders: list[str]) -> list[str]:
    """Load yt-dlp's plugins of these folders; return a line for each that can't be loaded."""
    yt_dlp_globals.plugin_dirs.value = list(folders)
    if not folders:
        return []
    errors: list[str] = []
    yt_dlp.plugins.write_string = errors.append
    try:
        yt_dlp.plugins.load_all_plugins()
    except BaseException as e:  # noqa: BLE001 - plugins may raise anything
        errors.append(f"Error while importing plugins\n{type(e).__name__}: {e}")
    lines = [each.strip().splitlines() for each in errors if each.strip()]
    return [f"{each[0]}: {each[-1]}"[:_MAX_TEXT_CHARS] for each in lines[:_MAX_WARNINGS]]


def keep_from_others(site_headers: tuple[SiteHeaders, ...]) -> None:
    """Make yt-dlp drop the operator's headers from requests that are redirected to other sites."""

    def strip(headers: Any, url: str) -> None:  # noqa: ANN401
        for each in site_headers:
            names = {name.lower() for name, _ in each.pairs}
            for name in [n for n in headers if n.lower() in names and not each.goes_to(url)]:
                del headers[name]

    session, handler = _requests.RequestsSession, _urllib.RedirectHandler
    rebuild, redirect = session.rebuild_auth, handler.redirect_request

    def rebuild_auth(self: Any, prepared: Any, response: Any) -> Any:  # noqa: ANN401
        strip(prepared.headers, prepared.url)
        return rebuild(self, prepared, response)

    def redirect_request(self: Any, *args: Any) -> Any:  # noqa: ANN401
        made = redirect(self, *args)
        if made is not None:
            strip(made.headers, made.full_url)
        return made

    session.rebuild_auth, handler.redirect_request = rebuild_auth, redirect_request
