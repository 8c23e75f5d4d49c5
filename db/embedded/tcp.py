"""A port of the embedded Postgres on this machine, for other programs: a reader with a password."""

import socket
from pathlib import Path
from typing import Final

from db.errors import EmbeddedError

ADDRESS: Final = "127.0.0.1"
READER: Final = "showmood_reader"
"""The one user who may connect by TCP."""

_RULES: Final = f"""\
local all all trust
host all {READER} {ADDRESS}/32 scram-sha-256
host all all all reject
"""


def listening(cluster: Path, port: int) -> list[str]:
    """Return options that make a server listen on a port, and write which user may connect.

    The socket, whose folder is closed to others, is open as without. Raises EmbeddedError where the
    port is in use.
    """
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((ADDRESS, port))
        except OSError as e:
            raise EmbeddedError(
                f"port {port} can't be Postgres's ({e.strerror}): choose another "
                "SHOWMOOD_DATABASE_PORT, or end what has it"
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
