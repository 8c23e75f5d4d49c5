"""The page: what was recorded and what was seen in it, for people, read-only."""
