"""The whole training: teachers in parallel, a tower distilled from them, self-distillation, report.

    python -m training --data DIR [--run DIR] [--minutes 140]

Continues an interrupted run. SMOKE=1 runs everything in two minutes, on a few faces,
without changing the shipped files.
"""

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from training.learning import distil, ship, train
from training.measuring import report

N_TEACHERS: Final = 2
N_AGAIN: Final = 2
"""Rounds of self-distillation after the distillation from teachers."""
MINUTES: Final = train.MINUTES + (1 + N_AGAIN) * distil.MINUTES
SHIPPED: Final = Path("emotion/weights")
PAGE: Final = Path("docs/accuracy.md")
PICTURE: Final = Path("docs/accuracy-confusion.png")


def teach(directory: Path, run: Path, minutes: float) -> None:
    """Train the teachers, each in its own process."""
    threads = max(1, (os.cpu_count() or N_TEACHERS) // N_TEACHERS)
    command = [sys.executable, "-m", "training.learning.train", "--data", str(directory)]
    command += ["--run", str(run), "--minutes", str(minutes), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    towers = [
        subprocess.Popen([*command, "--tower", str(i + 1)], env=environment)
        for i in range(N_TEACHERS)
    ]
    try:
        failed = [tower.wait() for tower in towers]
    finally:
        for tower in towers:
            tower.terminate()
    if any(failed):
        raise SystemExit(f"a tower failed: exit codes {failed}; start again to go on")


def learn(directory: Path, teachers: Path, run: Path, minutes: float, *how: str) -> None:
    """Distil a tower from others."""
    command = [sys.executable, "-m", "training.learning.distil", "--data", str(directory)]
    command += ["--teachers", str(teachers), "--run", str(run), "--minutes", str(minutes)]
    # In a smoke run batches are so small that several threads would mostly wait.
    threads = 1 if os.environ.get("SMOKE") == "1" else os.cpu_count() or 1
    command += ["--threads", str(threads), *how]
    if (failed := subprocess.run(command, check=False).returncode) != 0:
        raise SystemExit(f"the tower failed: exit code {failed}; start again to go on")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/training"))
    parser.add_argument("--minutes", type=float, default=MINUTES)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    smoke = os.environ.get("SMOKE") == "1"
    run = arguments.run / "smoke" if smoke else arguments.run
    share = arguments.minutes / MINUTES
    teachers, taught = run / "teachers", run / "student"
    teach(arguments.data, teachers, share * train.MINUTES)
    learn(arguments.data, teachers, taught, share * distil.MINUTES)
    for i in range(N_AGAIN):
        teacher, taught = taught, run / f"again-{i + 1}"
        how = ("--again", "--seed", str(1 + N_TEACHERS + i))
        learn(arguments.data, teacher, taught, share * distil.MINUTES, *how)
    out = run if smoke else SHIPPED
    path = ship.ship(arguments.data, taught, out)
    made = report.report(arguments.data, path)
    (run / "report.md").write_text(f"{made.card}\n\n{made.press}\n")
    card, picture = SHIPPED / f"{ship.NAME}.md", run / "confusion.png" if smoke else PICTURE
    report.confusion_picture(picture, made.measured)
    if not smoke:
        report.write_card(card, made.card)
        report.write_card(PAGE, made.press)


if __name__ == "__main__":
    main()
