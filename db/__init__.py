"""The history in Postgres: tables, writes and queries."""
