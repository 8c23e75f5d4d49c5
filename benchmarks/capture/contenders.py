"""Programs that record a live stream to a directory, for the same faults: our engines and others.

Each is started, may be killed and restarted, and leaves files; our engines also write
a journal.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.capture.live_stream import live_stream
from benchmarks.origin.audit import Account, Audit
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.recording import Recording
from flows.capture.segment import CaptureError, Gap, Segment
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin

POLICY: Final = AddressPolicy(allow_networks=LOOPBACK)
STOP_S: Final = 10.0
MIN_FREE_BYTES: Final = 1 << 20
"""Minimum free disk space of our engines, for the small disk that is filled."""


class Contender(Protocol):
    """A program that records an origin to a directory."""

    def start(self) -> None:
        """Start, or continue after `kill`."""

    def kill(self) -> None:
        """Kill it with SIGKILL."""

    def stop(self) -> None:
        """Stop it as a user would."""

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""

    def files(self) -> list[Path]:
        """Return its recorded files, finished or not."""

    def account(self, audit: Audit, *, end: int | None) -> Account:
        """Audit its recording, after its end."""


def stream_of(origin: LiveOrigin) -> Stream:
    """Return the stream at the origin, like yt-dlp, but without its delay of a second."""
    return live_stream(origin.share_url, origin.keyed_url)


def files_in(directory: Path) -> list[Path]:
    """Return the files in the journal of a running recording."""
    journal = directory / "events.jsonl"
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1] if journal.exists() else []
    return [directory / line["file"] for line in map(json.loads, lines) if "file" in line]


def events_in(directory: Path) -> list[Segment | Gap]:
    """Return the events in the journal of a recording."""
    return Recording(directory, channel="demo", broadcast=1).events


class InProcess:
    """One of our engines in a thread of this process; it can't be killed."""

    def __init__(self, origin: LiveOrigin, directory: Path, **options: Any) -> None:  # noqa: ANN401
        """Store the arguments; options: for Capture."""
        self.capture = Capture(
            origin.share_url,
            directory=directory,
            channel="demo",
            broadcast=1,
            policy=POLICY,
            stream=stream_of(origin),
            **options,
        )
        self._directory = directory

    def start(self) -> None:
        """Start."""
        self.capture.__enter__()

    def kill(self) -> None:
        """Refuse."""
        raise NotImplementedError("a thread can't be killed")

    def stop(self) -> None:
        """End the capture and wait for it."""
        self.capture.stop()

    @property
    def over(self) -> bool:
        """Whether the capture has ended by itself."""
        while self.capture.get(0.0) is not None:
            pass  # Its events are in the journal too.
        return self.capture.finished

    def files(self) -> list[Path]:
        """Return what the journal names."""
        return files_in(self._directory)

    def account(self, audit: Audit, *, end: int | None) -> Account:
        """Account for the journal's segments and gaps."""
        return audit.of_events(events_in(self._directory), end=end)


class _Program:
    """An external program, in consecutive runs."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory, self._log = directory, log
        self._runs = 0
        self.process: subprocess.Popen[bytes] | None = None

    def _command(self, run: int) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start a run."""
        self._runs += 1
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(self._runs), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Send SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Send SIGINT, and SIGKILL if it does not react."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.kill()

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def files(self) -> list[Path]:
        """Return its files."""
        return sorted(self.directory.glob("run-*.ts"))

    def account(self, audit: Audit, *, end: int | None) -> Account:
        """Audit the files, in the order of their start."""
        return audit.of_files(self.files(), end=end)


class Ours(_Program):
    """One of our engines in its own process, with default settings."""

    def __init__(self, engine: str, origin: LiveOrigin, directory: Path, log: Path) -> None:
        """Remember; nothing is started yet."""
        super().__init__(directory, log)
        self._arguments = [engine, origin.share_url, origin.keyed_url, str(directory)]
        self._arguments.append(str(origin.segment_s))

    def _command(self, run: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.capture.contenders", *self._arguments]

    def files(self) -> list[Path]:
        """Return what the journal names."""
        return files_in(self.directory)

    def account(self, audit: Audit, *, end: int | None) -> Account:
        """Account for the journal's segments and gaps."""
        return audit.of_events(events_in(self.directory), end=end)


class PlainFfmpeg(_Program):
    """ffmpeg -c copy into segments, with common options."""

    def __init__(self, origin: LiveOrigin, directory: Path, log: Path) -> None:
        """Remember; nothing is started yet."""
        super().__init__(directory, log)
        self._url, self._segment_s = origin.keyed_url, origin.segment_s

    def _command(self, run: int) -> list[str]:
        command = [find_ffmpeg(), "-v", "error", "-nostdin", "-i", self._url, "-c", "copy"]
        command += ["-f", "segment", "-segment_time", str(0.9 * self._segment_s)]
        return [*command, str(self.directory / f"run-{run}-%05d.ts")]


class Streamlink(_Program):
    """Streamlink into a file: the program in STREAMLINK, or the one of this Python."""

    def __init__(self, origin: LiveOrigin, directory: Path, log: Path) -> None:
        """Remember; nothing is started yet."""
        super().__init__(directory, log)
        self._url = origin.keyed_url

    def _command(self, run: int) -> list[str]:
        program = os.environ.get("STREAMLINK")
        command = [program] if program else [sys.executable, "-m", "streamlink"]
        command.append("-o")
        return [*command, str(self.directory / f"run-{run}.ts"), f"hls://{self._url}", "best"]


def main(arguments: list[str]) -> int:
    """Record until SIGINT: ENGINE PAGE PLAYLIST DIRECTORY SEGMENT_S."""
    engine, page_url, url, directory, segment_s = arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    stream = live_stream(page_url, url)
    with Capture(
        page_url,
        directory=Path(directory),
        channel="demo",
        broadcast=1,
        policy=POLICY,
        stream=stream,
        segment_s=float(segment_s),
        engine="hls" if engine == "hls" else "ffmpeg",
        min_free_bytes=MIN_FREE_BYTES,
    ) as capture:
        while not stopped.is_set() and not capture.finished:
            capture.get(0.5)
    return int(isinstance(capture.failure, CaptureError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
