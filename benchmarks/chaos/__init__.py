"""Chaos: a whole stack with several shows, of which parts are killed, stopped, filled or cut."""
