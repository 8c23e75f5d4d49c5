"""Load test of a thousand channels without video: python -m benchmarks.thousand [PART ...].

PART: database, sqlite, postgres.

Rows, lock checks and lags at their real rate, by the production code, on an embedded Postgres;
shows' requests to Prefect's server at theirs, on SQLite and on Debian's PostgreSQL. Channels are
added until something falls behind; the rest is extrapolated from the cost of each.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.thousand import database, prefect_server

PARTS = ("database", "sqlite", "postgres")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each step")
    parser.add_argument("--channels", type=int, nargs="*", default=[50, 100, 200, 300, 400, 600])
    parser.add_argument("--shows", type=int, nargs="*", default=[50, 100, 200, 400, 800])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found: dict[str, object] = {}
    for part in asked.parts or PARTS:
        if part == "database":
            told = database.measure(asked.channels, asked.seconds, _say)
            told["steps"] = [asdict(step) for step in told["steps"]]
            found[part] = told
            _say(json.dumps({name: value for name, value in told.items() if name != "steps"}))
        elif part == "postgres" and not prefect_server.PROGRAMS.is_dir():
            _say("postgres: NOT MEASURED: it takes Debian's postgresql, for pg_trgm")
        else:
            steps = prefect_server.measure(part, asked.shows, asked.seconds, _say)
            found[part] = [asdict(step) for step in steps]
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
