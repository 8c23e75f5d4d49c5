"""Passes a database password to libpq in a file, instead of a URL that other users may see."""

import os
from pathlib import Path

from sqlalchemy import URL

from db.session import driver_url


def without_password(url: str) -> tuple[str, str | None]:
    """Return a database's URL without its password, and the password, None if there is none.

    Raises BadDatabaseURL.
    """
    parsed = driver_url(url)
    query = {name: value for name, value in parsed.query.items() if name != "password"}
    secret = parsed.password or parsed.query.get("password")
    # URL.set() interprets None as "unchanged".
    plain = URL.create(
        "postgresql",
        username=parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query=query,
    )
    return plain.render_as_string(hide_password=False), str(secret) if secret else None


def write_passfile(file: Path, secret: str) -> dict[str, str]:
    """Write a password into a file of mode 0600; return the environment for libpq."""
    escaped = secret.replace("\\", "\\\\").replace(":", "\\:")
    part = file.with_name(f".{file.name}-{os.getpid()}")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600, exist_ok=False)
    part.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
    part.replace(file)
    return {"PGPASSFILE": str(file)}
