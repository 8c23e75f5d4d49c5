"""A newer version of Showmood: a copy with a higher number and one more migration."""

import os
import shutil
from pathlib import Path
from typing import Final

from alembic.script import ScriptDirectory

from db.session import alembic_config

NUMBER: Final = "999.0"
ROOT: Final = Path(__file__).resolve().parent.parent.parent
PACKAGES: Final = ("db", "emotion", "flows", "migrations")

_MIGRATION: Final = '''"""A column that only a newer version knows.

Revision ID: fleet_newer
Revises: {head}
"""

import sqlalchemy as sa
from alembic import op

revision = "fleet_newer"
down_revision = "{head}"
branch_labels = depends_on = None


def upgrade() -> None:
    op.add_column("machines", sa.Column("newer", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("machines", "newer")
'''


def newer_version(folder: Path) -> str:
    """Create it in a folder; return its PYTHONPATH."""
    skip = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=skip)
    shutil.copy(ROOT / "prefect.yaml", folder)
    head = ScriptDirectory.from_config(alembic_config("")).get_current_head()
    migration = folder / "migrations" / "versions" / "fleet_newer.py"
    migration.write_text(_MIGRATION.format(head=head), encoding="utf-8")
    told = folder / f"showmood-{NUMBER}.dist-info"
    told.mkdir()
    text = f"Metadata-Version: 2.1\nName: showmood\nVersion: {NUMBER}\n"
    (told / "METADATA").write_text(text, encoding="utf-8")
    return os.fspath(folder)
