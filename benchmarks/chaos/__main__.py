"""Chaos test: a whole stack with several shows under random faults of machine and sources.

python -m benchmarks.chaos [--minutes 30] [--seed 1] [--shows 4] [--keep DIR]

Up to two minutes it is a fixed list of faults with one show. Exit status 1 if a check
fails; prints a table and the failed checks at the end.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.chaos.plan import fixed_plan, make_plan
from benchmarks.chaos.trial import Trial

SHORT_MINUTES = 2.0
SHORT = (
    "watcher killed",
    "database killed",
    "disk full",
    "server stopped",
    "network cut",
    "worker killed",
)


def main(arguments: list[str]) -> int:
    """Run a trial; return 1 if a check fails, for example a silent loss."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shows", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="an empty directory for all of it, which stays")
    parser.add_argument("--without", default="", help="faults to leave out, with commas")
    parser.add_argument("--plan", action="store_true", help="print the plan, and do nothing")
    options = parser.parse_args(arguments)
    if options.minutes <= SHORT_MINUTES:
        options.shows = 1
        plan = fixed_plan(SHORT, apart_s=4.0, lasts_s=4.0)
    else:
        plan = make_plan(options.seed, 60 * options.minutes, n_shows=options.shows)
    left_out = {name.strip() for name in options.without.split(",")}
    plan = [step for step in plan if step.name not in left_out]
    if options.plan:
        for step in plan:
            print(f"{step.at_s:7.1f} s  {step.summary()}")
        return 0
    home = options.keep or Path(tempfile.mkdtemp(prefix="showmood-chaos-"))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)  # for the database's OS user
    trial = Trial(home, seed=options.seed, n_shows=options.shows)
    wrong = trial.run(plan)
    if wrong and not options.keep:
        print(f"all of it is kept in {home}")
    elif not options.keep:
        shutil.rmtree(home)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
