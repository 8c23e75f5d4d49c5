"""The history in Postgres: tables, the one way to write them, and the questions asked of them."""
