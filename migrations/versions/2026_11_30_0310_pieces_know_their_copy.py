"""show_segments names the copies in the store; emotion_timeline, how long emotions were known.

Revision ID: b7e52c90a4d8
Revises: f1d83a6c52b7
Create Date: 2026-11-30 03:10:00
"""

import importlib.util
from pathlib import Path
from types import ModuleType

from alembic import op

revision = "b7e52c90a4d8"
down_revision = "f1d83a6c52b7"
branch_labels = None
depends_on = None

EMOTIONS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)

OF_A_PIECE = {
    "needs": "Files beside its own that are decoded first: it begins amid pictures",
    "object_key": "Of the file's copy in the object store; null: there is none",
    "size_bytes": "Of the copy",
    "sha256": "Of the copy, in hexadecimal digits",
}
OF_A_MINUTE = {
    **{
        f"{emotion}_known_s": "Seconds of it with a face that this emotion is known of: its mean is"
        " over these"
        for emotion in EMOTIONS
    },
    "affect_known_s": "Seconds of it with a face that valence and arousal are known of",
}


def before(name: str) -> ModuleType:
    """Return an older revision's module, by the end of its file name."""
    (path,) = Path(__file__).parent.glob(f"*_{name}.py")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


pieces = before("pieces_know_their_analysis")
views = before("views_over_time")

MORE_OF_A_PIECE = ", s.frames_analysed AS frames, s.analysed_fps::real AS fps, s.model"
PIECES = pieces.query(f"{MORE_OF_A_PIECE}, {', '.join(f's.{name}' for name in OF_A_PIECE)}")
MINUTES = views.EMOTION_TIMELINE.replace(
    "AS mixed\n", f"AS mixed,\n    {', '.join(f'm.{name}' for name in OF_A_MINUTE)}\n"
)

# Columns of a view cannot be removed, so it is created again, with its existing comments.
NARROW = """
DO $do$
DECLARE
    said text[] := ARRAY(
        SELECT format('COMMENT ON COLUMN {view}.%I IS %L', attname,
            col_description(attrelid, attnum))
        FROM pg_attribute WHERE attrelid = '{view}'::regclass AND attnum > 0
        AND attname NOT IN ({gone}) AND col_description(attrelid, attnum) IS NOT NULL
    ) || format('COMMENT ON VIEW {view} IS %L', obj_description('{view}'::regclass));
    one text;
BEGIN
    DROP VIEW {view};
    {query};
    FOREACH one IN ARRAY said LOOP
        EXECUTE one;
    END LOOP;
END
$do$
"""


def upgrade() -> None:
    """Add the columns."""
    op.execute(f"CREATE OR REPLACE VIEW show_segments AS {PIECES}")
    op.execute(MINUTES.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
    for view, columns in (("show_segments", OF_A_PIECE), ("emotion_timeline", OF_A_MINUTE)):
        for name, words in columns.items():
            op.execute(f"COMMENT ON COLUMN {view}.{name} IS {views.quoted(words)}")


def downgrade() -> None:
    """Remove them. Roles then need their rights again: `showmood db upgrade --roles`."""
    for view, columns, query in (
        (
            "show_segments",
            OF_A_PIECE,
            f"CREATE VIEW show_segments AS {pieces.query(MORE_OF_A_PIECE)}",
        ),
        ("emotion_timeline", OF_A_MINUTE, views.EMOTION_TIMELINE),
    ):
        gone = ", ".join(f"'{name}'" for name in columns)
        op.execute(NARROW.format(view=view, gone=gone, query=query))
