"""showmood link, env: access to the embedded server for browsers and shells."""

import shlex

import typer

from flows.commands import load_settings

app = typer.Typer()


@app.command()
def link() -> None:
    """Print the link that opens the UI of showmood up in a browser. It is as good as a password.

    The page's link goes to stderr, so that scripts read one line. One more for each name in
    SHOWMOOD_UI_HOSTS.
    """
    from flows.auth.access import Access
    from flows.page.serving import page_access, page_url
    from flows.shows.applying import embedded_ui

    settings = load_settings()
    access = Access.read(settings.home)
    page = page_access(settings)
    for address in (page_url(settings), *(f"https://{host}" for host in settings.page_hosts)):
        typer.echo(f"page:    {page.link(address)}", err=True)
    for address in (embedded_ui(settings), *(f"https://{host}" for host in settings.ui_hosts)):
        typer.echo(access.link(address))


@app.command()
def env() -> None:
    """Print the environment for plain prefect commands: eval "$(showmood env)"."""
    from flows import NO_TELEMETRY
    from flows.auth.access import Access
    from flows.shows.applying import embedded_url

    settings = load_settings()
    needed = {
        "PREFECT_API_URL": embedded_url(settings),
        "PREFECT_API_AUTH_STRING": Access.read(settings.home).auth_string,
    }
    for name, value in (needed | NO_TELEMETRY).items():
        typer.echo(f"export {name}={shlex.quote(value)}")
