"""Faults of the origin in its answers to requests."""

import threading
from dataclasses import dataclass, replace
from typing import Final, Literal

from flows.demo.server import Reply

Kind = Literal["page", "playlist", "segment"]

RESET: Final = Reply(reset=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault of the origin in its answers to some requests.

    on: which requests. times: how many of them; None for all until `heal`. one_segment: only those
    for the segment that is requested first, as where one file of the source is damaged.
    status: answer this HTTP status. body: send this instead. share: send only this share of the
    body, with a matching length. keep_bytes: send only so much of the body, then close the
    connection (or stall). stall: then send nothing more until `heal`. over_s: send the body over
    so many seconds. reset: cut the connection off with a TCP reset before any answer.
    """

    on: Kind | Literal["any"] = "any"
    times: int | None = None
    one_segment: bool = False
    status: int | None = None
    body: bytes | None = None
    share: float = 1.0
    keep_bytes: int | None = None
    stall: bool = False
    over_s: float | None = None
    reset: bool = False


@dataclass(kw_only=True, slots=True)
class _Entry:
    fault: Fault
    left: int | None
    path: str | None = None


class Faults:
    """The faults of an origin, in the order of their injection: the first that fits applies.

    May be used by any thread.
    """

    def __init__(self) -> None:
        """Begin without faults."""
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._healed = threading.Event()

    def inject(self, fault: Fault) -> None:
        """Show this fault from now on."""
        with self._lock:
            self._healed.clear()
            self._entries.append(_Entry(fault=fault, left=fault.times))

    def heal(self) -> None:
        """Remove all faults, and release stalled requests."""
        with self._lock:
            self._entries.clear()
            self._healed.set()

    def release(self) -> None:
        """Release stalled requests."""
        self._healed.set()

    def hold(self) -> None:
        """Let requests stall again."""
        self._healed.clear()

    def spoil(self, reply: Reply, kind: Kind, path: str) -> Reply:
        """Return the reply to a request, changed by the faults."""
        fault = self._fault_for(kind, path)
        if fault is None:
            return reply
        if fault.reset:
            return RESET
        if fault.status is not None:
            return Reply(status=fault.status)
        body = reply.body if fault.body is None else fault.body
        body = body[: round(len(body) * fault.share)]
        return replace(
            reply,
            body=body,
            keep_bytes=0 if fault.stall and fault.keep_bytes is None else fault.keep_bytes,
            stall=self._healed.wait if fault.stall else None,
            over_s=fault.over_s or 0.0,
            pause=self._healed.wait,
        )

    def _fault_for(self, kind: Kind, path: str) -> Fault | None:
        with self._lock:
            for entry in self._entries:
                if entry.fault.on not in (kind, "any") or entry.left == 0:
                    continue
                if entry.fault.one_segment:
                    entry.path = entry.path or path
                    if entry.path != path:
                        continue
                if entry.left is not None:
                    entry.left -= 1
                return entry.fault
        return None
