"""Serves the demo channel: python -m flows.demo."""

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
from pathlib import Path

from flows.demo.channel import LiveOrigin
from flows.demo.errors import DemoError
from flows.demo.programme import make_programme


def main(arguments: list[str] | None = None) -> int:
    """Serve the demo channel until SIGINT or SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.demo", description="Play a clip as a live HLS channel."
    )
    parser.add_argument("--video", type=Path, help="the clip (default: the built-in programme)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8799, help="0 takes a free one")
    parser.add_argument("--segment", type=float, default=2.0, help="seconds (default: 2)")
    parser.add_argument("--ffmpeg", help="the ffmpeg to cut with (default: the built-in)")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.ExitStack() as stack:
        try:
            clip = options.video
            if clip is None:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                clip = make_programme(work / "programme.mp4", ffmpeg_path=options.ffmpeg)
            origin = LiveOrigin(
                clip,
                segment_s=options.segment,
                host=options.host,
                port=options.port,
                ffmpeg_path=options.ffmpeg,
            )
            stack.callback(origin.close)
            origin.start()
        except (DemoError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 2
        sys.stdout.write(f"{origin.url}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
