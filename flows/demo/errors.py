"""What the demo raises."""


class DemoError(Exception):
    """The demo channel can't play; one line that says why."""
