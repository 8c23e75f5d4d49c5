"""What `showmood init` writes: a prefect.yaml with examples, an .env, a unit for systemd."""

import os
import pwd
import re
import sys
import textwrap
from pathlib import Path
from typing import Final

from pydantic_core import PydanticUndefined

from flows.control.client.api import PREFECT_YAML, SHIPPED
from flows.errors import UsageError
from flows.settings import Settings

ENV: Final = ".env"

NEXT: Final = (
    "next: showmood shows add URL --name NAME --cron '0 20 * * 1-5' --timezone Europe/Berlin",
    "then: showmood up",
)

UNIT: Final = "showmood.service"
WORKER_UNIT: Final = "showmood-worker.service"

_UNIT: Final = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={user}
WorkingDirectory={folder}
EnvironmentFile=-{folder}/.env
ExecStart={command} {subcommand}
{stop}
RestartSec=10
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""

_UP: Final = {
    "description": "Showmood: watches shows and keeps their emotion history",
    "subcommand": "up",
    "stop": """\
# `up` cancels and stores running shows and stops its processes; what is left then is killed.
KillMode=mixed
TimeoutStopSec=120
Restart=on-failure""",
}

_WORKER: Final = {
    "description": "Showmood worker: watches shows for a Prefect server elsewhere",
    "subcommand": "worker",
    "stop": """\
# Only the worker gets the signal. It hands its shows over; those that no worker takes continue.
KillMode=process
TimeoutStopSec=90
Restart=always""",
}

_HEAD: Final = """\
# Settings of Showmood: take the `#` from a line to set it. The environment goes before this file.
# Passwords stand here in clear: keep the file to yourself (it is made with mode 0600).
"""


def write_files(folder: Path) -> list[str]:
    """Write both files unless they are there; return a line on each. Raises UsageError."""
    lines = []
    contents = {
        PREFECT_YAML: SHIPPED.read_text(encoding="utf-8"),
        ENV: f"{_HEAD}{_settings()}",
    }
    for name, content in contents.items():
        path = folder / name
        try:
            with path.open("x", encoding="utf-8") as file:
                path.chmod(0o600 if name == ENV else 0o644)
                file.write(content)
        except FileExistsError:
            lines.append(f"{path} exists already and was not changed")
        except OSError as e:
            raise UsageError(f"{path} cannot be written: {e.strerror}") from e
        else:
            lines.append(f"{path} was written")
    return lines


def write_unit(folder: Path, *, worker: bool = False) -> list[str]:
    """Write a systemd unit that runs `showmood up`, or a worker, in this folder; return next steps.

    Raises UsageError where a path cannot stand in a unit, or the file cannot be written.
    """
    command = Path(sys.executable).with_name("showmood")
    user = pwd.getpwuid(os.geteuid()).pw_name
    for word in (str(command), str(folder)):
        # systemd has specifiers (%), variables ($), quotes and backslashes of its own.
        if re.search(r"[^\w./@+:,-]", word):
            raise UsageError(
                f"{word}: a systemd unit needs a path without spaces or special characters"
            )
    unit, own = (WORKER_UNIT, _WORKER) if worker else (UNIT, _UP)
    path = folder / unit
    try:
        content = _UNIT.format(command=command, folder=folder, user=user, **own)
        path.write_text(content, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror}") from e
    as_root = " It runs as root: give it a user of its own (User=)." if user == "root" else ""
    return [
        f"{path} was written.{as_root}",
        f"next: sudo cp {path} /etc/systemd/system/ && sudo systemctl enable --now {unit}",
    ]


def _settings() -> str:
    """Return each setting with its description and its default, commented out."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        lines += [
            "",
            *textwrap.wrap(
                field.description or "", 96, initial_indent="# ", subsequent_indent="# "
            ),
        ]
        lines.append(f"# SHOWMOOD_{name.upper()}={default}")
    return "\n".join(lines) + "\n"
