"""Fleet test: machines on one kernel, each with its own network, disk and host name, watch shows.

python -m benchmarks.fleet [--short] [--only TRIAL ...] [--list]   as root, with `ip` (iproute2) and
Debian's PostgreSQL

A server (Prefect's, its gate, Postgres over TCP with a password), a live source, an object store
and two workers. Each trial kills, cuts off, fills or stops a part while shows are on air.
Then the audit checks that every second of the show is a row, a gap with its reason, or on a disk of
a live machine. Prints a table; exit status 1 if a second is lost or stored twice, or a trial fails.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from benchmarks.fleet import troubles, workers  # noqa: F401 - their trials
from benchmarks.fleet.audit import HEAD, audit
from benchmarks.fleet.fleet import Fleet
from benchmarks.fleet.restore import history_is_restored
from benchmarks.fleet.services import PROGRAMS
from benchmarks.fleet.trial import TRIALS, Trial
from db.errors import DatabaseError

FAULTS = (AssertionError, subprocess.SubprocessError, DatabaseError, SQLAlchemyError, OSError)


def run_one(fleet: Fleet, each: Trial) -> tuple[list[str], bool]:
    """Run a trial; return lines of the table, and whether it passed."""
    print(f"{each.name}: {each.what}", flush=True)
    is_right = True
    try:
        how = each.do(fleet, each.name.replace("_", "-"))
    except FAULTS as e:
        how, is_right = f"FAILED: {e}", False
    lines = []
    for slug in each.slugs:
        try:
            with contextlib.suppress(AssertionError):
                fleet.until_over(slug)
            account = audit(fleet, slug)
            cells, is_whole = account.cells(), account.is_whole
        except FAULTS as e:
            cells, is_whole = [f"NOT ACCOUNTED FOR: {e}"], False
        is_right &= is_whole
        lines.append(f"| {' | '.join([each.what, *cells, how])} |")
    try:
        said = fleet.make_well()
    except FAULTS as e:
        said, is_right = [f"the fleet is not well again: {e}"], False
    lines += [f"| {each.name}: {line} |" for line in said]
    print("\n".join(lines), flush=True)
    return lines, is_right


def main(arguments: list[str]) -> int:
    """Run all trials; return 1 if a second is lost or stored twice."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("--short", action="store_true", help="the first three trials")
    parser.add_argument("--only", action="append", choices=TRIALS, help="this trial; repeatable")
    parser.add_argument("--list", action="store_true", help="print the trials, and do nothing")
    options = parser.parse_args(arguments)
    chosen = [
        each
        for each in TRIALS.values()
        if (each.is_short or not options.short) and each.name in (options.only or TRIALS)
    ]
    if options.list:
        print("\n".join(f"{each.name:24} {each.what}" for each in chosen))
        return 0
    if os.geteuid() != 0 or shutil.which("ip") is None or not PROGRAMS.is_dir():
        print("THE FLEET IS NOT TRIED: it takes root, `ip` (iproute2) and Debian's postgresql")
        return 0
    root = Path(tempfile.mkdtemp(prefix="showmood-fleet-"))
    root.chmod(0o755)
    head = ("what", *HEAD, "how it ended")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    is_right = True
    with ExitStack() as stack:
        fleet = Fleet(root, stack)
        for each in chosen:
            said, was_right = run_one(fleet, each)
            lines += said
            is_right &= was_right
        try:
            how = history_is_restored(fleet)
        except subprocess.CalledProcessError as e:
            how = f"FAILED: {e}: {(e.stderr or b'').decode()[-500:]}"
        is_right &= how == "the same"
        lines.append(f"| the history is dumped and restored | {how} |")
    if is_right:
        shutil.rmtree(root, ignore_errors=True)
    print("\n".join(["", *lines, ""]))
    print("nothing is lost" if is_right else f"all of it is kept in {root}")
    return int(not is_right)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
