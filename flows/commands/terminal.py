"""The console that commands print to."""

from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: a [bracket] in it is not markup."""
    return Console(stderr=stderr, markup=False)
