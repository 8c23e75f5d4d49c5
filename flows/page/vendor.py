"""Third-party browser libraries: fetched once by deno, with a lock file."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from flows.errors import UsageError

HERE: Final = Path(__file__).resolve().parent
PACKAGED: Final = HERE / "vendor"
"""Their folder in a wheel."""

FILES: Final = {
    "hls.js": "hls.js/dist/hls.light.min.js",
    "hls.worker.js": "hls.js/dist/hls.worker.js",
    "hls.LICENSE": "hls.js/LICENSE",
    "uplot.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE": "uplot/LICENSE",
    "media-chrome.js": "media-chrome/dist/iife/index.js",
    "media-chrome.LICENSE": "media-chrome/LICENSE",
}
VERSION: Final = "hls.js-1.7.4-uplot-1.6.32-media-chrome-4.19.4"
TIMEOUT_S: Final = 180.0


def vendored(cache_dir: Path | None = None) -> Path | None:
    """Return the folder that has the libraries; None before they were fetched."""
    for folder in (PACKAGED, _cached(cache_dir)):
        if all((folder / name).is_file() for name in FILES):
            return folder
    return None


def fetch(into: Path | None = None, *, cache_dir: Path | None = None) -> Path:
    """Fetch the libraries and return their folder; what deno.lock does not name is refused.

    Raises UsageError, with deno's error, when that fails.
    """
    return install(HERE, FILES, into or _cached(cache_dir))


def install(locked: Path, files: Mapping[str, str], target: Path) -> Path:
    """Fetch the packages of a folder's deno.json and deno.lock; return `target` with their files.

    files: paths in the packages, by their new names. Raises UsageError, with deno's error.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".vendor-") as made:
        work = Path(made)
        for name in ("deno.json", "deno.lock"):
            shutil.copy(locked / name, work / name)
        try:
            deno = str(import_module("deno").find_deno_bin())
            done = subprocess.run(
                [deno, "install", "--frozen", "--quiet"],
                cwd=work,
                env=os.environ | {"DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired, AttributeError) as e:
            raise UsageError(f"the page's libraries could not be fetched: {e}") from e
        if done.returncode:
            error = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise UsageError(
                f"the page's libraries could not be fetched: {error} "
                "(they come from the npm registry that NPM_CONFIG_REGISTRY names)"
            )
        fresh = work / "fresh"
        fresh.mkdir()
        for name, source in files.items():
            shutil.copy(work / "node_modules" / source, fresh / name)
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)
    return target


def _cached(cache_dir: Path | None) -> Path:
    return (cache_dir or user_cache_path("showmood")) / "page" / VERSION
