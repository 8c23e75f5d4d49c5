"""One trial: starts the stack, executes the plan, stops the stack, and audits."""

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import httpx
from sqlalchemy.exc import DBAPIError

from benchmarks.chaos.audit import SEGMENT_S, Found, audit, slug_of, waiting
from benchmarks.chaos.breaking import MIN_FREE_MB, POOL, WATCHER, Breaker, Show
from benchmarks.chaos.carrying import Carrying
from benchmarks.chaos.disk import Archive, Disk
from benchmarks.chaos.left import left_behind, locks_held
from benchmarks.chaos.plan import DEAD_AFTER_S, Step
from benchmarks.origin.scenarios import SCENARIOS
from benchmarks.origin.testcard import VARIANTS, make_testcard
from benchmarks.up import Up, until
from db.errors import DatabaseError
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme

FPS: Final = 10
WINDOW: Final = 20
DISK_MB: Final = 256
START_S: Final = 400.0
RECOVERY_S: Final = 300.0
"""Seconds within which everything must work again after the last fault."""

END_S: Final = 120.0
NEXT_S: Final = 240.0
GONE_S: Final = 60.0
"""Time limits in seconds: end of a cancelled show, end of its next watch, end of its processes.
They are extended if the start was slow."""

QUIET_START_S: Final = 60.0
"""Maximum seconds for the start of all shows on two idle cores."""

MAX_LATE: Final = 0.5
"""Maximum delay of faults, as a share of the plan's length, because starts of processes take time.
Later faults are skipped and reported."""

AFTER_S: Final = RECOVERY_S + END_S + NEXT_S + 2 * GONE_S
"""Seconds for which the sources continue after the last fault."""

MARGIN: Final = 3
"""Segments published this many before the cancel of a show must be present."""

_SOURCES: Final = frozenset(scenario.name for scenario in SCENARIOS)
_NEWEST: Final = (
    "SELECT max(s.ended_at) AS at FROM segments s JOIN channels c ON c.id = s.channel_id"
    " WHERE slug = :slug AND status = 'analysed'"
)
_LAST: Final = "SELECT max(id) AS id FROM broadcasts"
_OPEN: Final = "SELECT count(*) AS n FROM broadcasts WHERE status = 'live'"

T = TypeVar("T")


class Trial:
    """A trial in a folder of its own."""

    def __init__(self, home: Path, *, seed: int, n_shows: int) -> None:
        """Store the arguments."""
        self._base, self._seed, self._n_shows = home, seed, n_shows
        self.home = home / "home"
        self.home.mkdir(parents=True)
        self.wrong: list[str] = []
        self._slow = 1.0
        self._ends_at = 0.0

    def run(self, plan: Sequence[Step]) -> list[str]:
        """Run the trial; print the log and the table, and return the failed checks."""
        with ExitStack() as stack:
            disk = Disk(self.home / "recordings", size_mb=DISK_MB)
            stack.callback(disk.close)
            shows = self._put_on_air(stack, plan)
            archive_dir = self._base / "archive"
            archive_dir.mkdir()
            archive = Archive(self.home / "recordings", archive_dir)
            temporary = self.home / "tmp"
            temporary.mkdir()
            up = Up(self.home, shows[0].origin, self._settings(temporary))
            up.api.timeout = 60.0  # if the server is busy
            stack.callback(up.api.close)
            stack.callback(up.stop)
            directory = Path(up.rows("SHOW data_directory")[0].data_directory)
            breaker = Breaker(
                up=up,
                shows=shows,
                disk=disk,
                chance=random.Random(self._seed),
                cluster=directory,
            )
            carrying = Carrying(breaker, self._seed, self._left_s)
            stack.callback(breaker.close)
            carrying.say(f"{len(plan)} faults; all is in {self._base}")
            began = time.monotonic()
            self._start(up, breaker, shows, duration="6h")
            self._hold("each show's beginning", lambda: self._all_newer(up, shows, 0), START_S)
            self._slow = max(1.0, (time.monotonic() - began) / QUIET_START_S)
            carrying.say(f"begun; what has a bound may take {self._slow:.1f} times as long")
            try:
                carrying.carry_out(plan)
            except Exception as e:  # noqa: BLE001 - what keeps the stack from going on is a finding
                self._note(f"the stack did not go on: {e!r}")
            finally:
                disk.unprotect()
                disk.empty()
            self.wrong += carrying.failed
            carrying.say("that was the last fault")
            now = datetime.now(UTC)
            back = self._hold(
                "all shows' being well again",
                lambda: self._all_newer(up, shows, (datetime.now(UTC) - now).total_seconds()),
                RECOVERY_S,
            )
            if back:
                carrying.say(f"all shows are well after {(datetime.now(UTC) - now).seconds} s")
            ends = {show.slug: show.origin.published - MARGIN for show in shows}
            self._end(up, shows)
            last = self._hold("the database's answer", lambda: up.rows(_LAST)[0].id, 60) or 0
            n_waiting = len(waiting(up.home / "recordings"))
            self._next_start(up, breaker, shows)
            for path in waiting(up.home / "recordings"):
                self._note(f"{path.relative_to(up.home)} waits after the next start")
            self.wrong += locks_held(up)
            if self._left_s() < -AFTER_S:
                self._note("the sources were over before the end: the machine was too slow")
            archive.close()
            found = []
            for show in shows:
                found.append(
                    audit(up, show, archive, carrying.done, end=ends[show.slug], last=last)
                )
                self.wrong += [f"{show.slug}: {line}" for line in found[-1].wrong]
            print(_table(found, carrying, n_waiting), flush=True)
            breaker.close()
            up.stop()
            self.wrong += left_behind(up, directory, ours=os.getpid())
            if not directory.is_relative_to(self._base):  # for the database's OS user
                shutil.rmtree(directory.parent)
        for line in self.wrong:
            print(f"WRONG {line}")
        print(f"seed {self._seed}: {len(self.wrong) or 'nothing'} wrong", flush=True)
        return self.wrong

    def _note(self, line: str) -> None:
        print(f"WRONG {line}", flush=True)
        self.wrong.append(line)

    def _left_s(self) -> float:
        """Return the seconds left for faults."""
        return self._ends_at - time.monotonic() - AFTER_S

    def _settings(self, temporary: Path) -> dict[str, str]:
        return {
            "SHOWMOOD_SEGMENT_S": str(SEGMENT_S),
            "SHOWMOOD_STALL_S": "15",
            "SHOWMOOD_DEAD_AFTER_S": str(DEAD_AFTER_S),
            "SHOWMOOD_DETECTION_SIZE_PX": "320",
            "SHOWMOOD_MIN_FREE_DISK_MB": str(MIN_FREE_MB),
            "TMPDIR": str(temporary),
        }

    def _put_on_air(self, stack: ExitStack, plan: Sequence[Step]) -> list[Show]:
        plan_s = max((step.end_s for step in plan), default=0.0)
        duration_s = START_S + plan_s * (1 + MAX_LATE) + AFTER_S
        clip = make_programme(self._base / "programme.mp4", duration_s=24)
        pieces = make_testcard(
            self._base / "show",
            duration_s=duration_s,
            segment_s=SEGMENT_S,
            fps=FPS,
            # Encoding takes minutes on a busy machine.
            variants=VARIANTS if any(step.name in _SOURCES for step in plan) else (),
            clip=clip,
            size="320x180",
        )
        self._ends_at = time.monotonic() + duration_s - 4 * SEGMENT_S
        shows = []
        for number in range(self._n_shows):
            origin = LiveOrigin(
                pieces[""],
                variants={name: path for name, path in pieces.items() if name},
                window=WINDOW,
                loop=False,
                started_at=datetime.now(UTC) - timedelta(seconds=4 * SEGMENT_S),
            )
            stack.enter_context(origin)
            pool = POOL if number and number == self._n_shows - 1 else "shows"
            shows.append(Show(slug=slug_of(number), origin=origin, pool=pool))
        return shows

    def _start(
        self, up: Up, breaker: Breaker, shows: Sequence[Show], *, duration: str
    ) -> list[str]:
        """Start a run of each show; return them."""
        if any(show.pool == POOL for show in shows):
            breaker.tend()
            if not up.api.get(f"/deployments/name/watch-show/{POOL}").is_success:
                up.deploy(POOL, pool=POOL)
        runs = []
        for show in shows:
            show.run = up.start(
                "adhoc" if show.pool == "shows" else POOL,
                url=show.origin.share_url,
                name=show.slug,
                duration=duration,
                analysed_fps=1,
            )
            runs.append(show.run)
        return runs

    def _all_newer(self, up: Up, shows: Sequence[Show], seconds: float) -> bool:
        """Return whether each show has recent rows; for 0, any rows."""
        oldest = datetime.now(UTC) - timedelta(seconds=max(0.0, seconds - 1))
        for show in shows:
            (row,) = up.rows(_NEWEST, slug=show.slug)
            if row.at is None or (seconds and row.at < oldest):
                return False
        return True

    def _hold(self, what: str, holds: Callable[[], T | None], within_s: float) -> T | None:
        """Wait for an event, longer on a slow machine; record a failure if it does not come."""

        def tried() -> T | None:
            try:
                return holds()
            except (httpx.HTTPError, DatabaseError, DBAPIError):
                return None  # the server or the database is still unavailable

        try:
            return until(tried, what=what, within_s=within_s * self._slow)
        except AssertionError as e:
            self._note(str(e))
            return None

    def _end(self, up: Up, shows: Sequence[Show]) -> None:
        """Cancel all shows, and check that they end in time."""
        for show in shows:
            if (state := up.ended(show.run)) is not None:
                self._note(f"{show.slug} has ended before its time: {state['message']}")
                continue
            up.cancel(show.run)
        for show in shows:
            state = self._hold(f"the end of {show.slug}", lambda: up.ended(show.run), END_S)  # noqa: B023
            if state is not None and state["type"] != "CANCELLED":
                self._note(f"{show.slug} was cancelled, and is {state['name']}")
        self._hold("the end of all watchers", lambda: not up.tools(WATCHER), GONE_S)

    def _next_start(self, up: Up, breaker: Breaker, shows: Sequence[Show]) -> None:
        """Watch each show again briefly, which writes spooled rows and closes open broadcasts."""
        for run, show in zip(self._start(up, breaker, shows, duration="4s"), shows, strict=True):
            state = self._hold(f"the next watch of {show.slug}", lambda: up.ended(run), NEXT_S)  # noqa: B023
            if state is not None and state["type"] != "COMPLETED":
                self._note(f"the next watch of {show.slug} is {state['name']}: {state['message']}")
        self._hold("the end of all watchers", lambda: not up.tools(WATCHER), GONE_S)
        closed = self._hold("the database's answer", lambda: up.rows(_OPEN)[0], 60)
        if closed is not None and closed.n:
            self._note("a broadcast is still live")


def _table(found: Sequence[Found], carrying: Carrying, n_waiting: int) -> str:
    did = Counter(each.step.name for each in carrying.done if each.why_not is None)
    lines = ["", "| fault | times |", "|---|---:|"]
    lines += [f"| {name} | {n} |" for name, n in sorted(did.items())]
    skipped = Counter(each.step.name for each in carrying.done if each.why_not)
    lines += [f"| not possible: {name} | {n} |" for name, n in sorted(skipped.items())]
    names = ["show", "on air s", "lost s", "silently s", "twice s", "gaps", "gaps s"]
    names += ["segments", "faces", "tracks", "dates off ms"]
    lines += ["", f"| {' | '.join(names)} |", f"|---{'|---:' * (len(names) - 1)}|"]
    for each in found:
        account = each.account
        if account is None:
            lines.append(f"| {each.slug} | nothing |")
            continue
        statuses = ", ".join(f"{n} {status}" for status, n in sorted(each.statuses.items()))
        cells = [each.slug, f"{account.shown_s:.0f}", f"{account.lost_s:.1f}"]
        cells += [f"{account.silent_s:.2f}", f"{account.repeated_s:.2f}", f"{len(each.gaps)}"]
        cells += [f"{account.gaps_s:.1f}", statuses, f"{each.faces}", f"{each.tracks}"]
        cells += [f"{account.date_error_s * 1000:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"{n_waiting} writes waited on disk at the end, for the next start"]
    return "\n".join(lines)
