"""TCP access to the embedded Postgres on this machine, for a read-only user with a password."""

import socket
from pathlib import Path
from typing import Final

from db.errors import EmbeddedError

ADDRESS: Final = "127.0.0.1"
READER: Final = "showmood_reader"
"""The only user that may connect by TCP."""

_RULES: Final = f"""\
local all all trust
host all {READER} {ADDRESS}/32 scram-sha-256
host all all all reject
"""


def listening(cluster: Path, port: int) -> list[str]:
    """Return the options for a TCP port, and write the file of access rules.

    The socket, whose directory is closed to others, stays usable by all roles. Raises EmbeddedError
    if the port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as e:
            raise EmbeddedError(
                f"Postgres can't use port {port} ({e.strerror}): choose another "
                "SHOWMOOD_DATABASE_PORT, or stop the program that uses it"
            ) from e
    rules = cluster / "showmood_hba.conf"
    rules.write_text(_RULES, encoding="utf-8")
    rules.chmod(0o644)
    return [
        f"listen_addresses = '{ADDRESS}'",
        f"port = {port}",
        "hba_file = '{}'".format(str(rules).replace("'", "''")),
        "password_encryption = 'scram-sha-256'",
    ]
