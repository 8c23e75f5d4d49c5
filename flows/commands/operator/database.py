"""showmood db: the database's URL, schema and maintenance; psql."""

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer
from rich.table import Table

from flows.commands import load_settings
from flows.commands.terminal import plain_console

app = typer.Typer(help="The database: URL, schema, maintenance, psql.", no_args_is_help=True)
console = plain_console(stderr=True)


@app.command()
def upgrade(
    roles: Annotated[
        bool,
        typer.Option(
            "--roles", help="Also make the roles showmood_analyst and showmood_writer, to GRANT."
        ),
    ] = False,
) -> None:
    """Bring the database's schema to this version."""
    from db.roles import ANALYST, WRITER, grant_roles
    from flows.stack.processes.postgres import database

    with ExitStack() as stack:
        address = database(load_settings(), stack)
        if roles:
            grant_roles(address)
    console.print("the database is up to date")
    if roles:
        console.print(f"{ANALYST} reads the views, {WRITER} runs the flows: GRANT them to users")


@app.command()
def maintain() -> None:
    """Make partitions ahead and delete data older than SHOWMOOD_KEEP_..._DAYS."""
    from flows.maintain import maintain_here, table_of
    from flows.stack.processes.postgres import database

    settings = load_settings()
    with ExitStack() as stack:
        done = maintain_here(settings, database(settings, stack), now=datetime.now(UTC))
    rows = table_of(done)
    table = Table(*rows[0], box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    plain_console().print(table)


@app.command()
def url(
    program: Annotated[
        Literal["psycopg", "sqlalchemy", "jdbc", "duckdb"] | None,
        typer.Option(
            "--for",
            help="In this program's format; for an embedded database with "
            "SHOWMOOD_DATABASE_PORT, of its read-only user.",
        ),
    ] = None,
) -> None:
    """Print the database's URL; the embedded one answers while `showmood up` runs."""
    from db.addresses import address_for
    from flows.stack.processes.existing_database import existing_database
    from flows.stack.processes.postgres import readers_address

    settings = load_settings()
    with ExitStack() as stack:
        address = existing_database(settings, stack)
        if program is not None:
            by_port = readers_address(settings) if settings.database_url is None else None
            address = address_for(by_port or address, program)
        typer.echo(address)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the database, with further arguments: showmood db psql -c 'SELECT ...'."""
    from db.embedded.psql import run_psql
    from flows.stack.processes.existing_database import existing_database

    with ExitStack() as stack:
        code = run_psql(existing_database(load_settings(), stack), context.args)
    raise typer.Exit(code)
