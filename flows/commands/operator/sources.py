"""showmood sources: what is set for sites, and what a URL would give."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands import load_settings

app = typer.Typer(
    help="What is set for sites and cameras in sources.toml: cookies, proxies and more.",
    no_args_is_help=True,
)


@app.command()
def check(
    url: Annotated[
        str | None, typer.Argument(help="Also look what would be recorded of this page or camera.")
    ] = None,
    quality: Annotated[str, typer.Option(help="As a show's quality.")] = "720p",
) -> None:
    """Check sources.toml, and yt-dlp's age; with a URL, show what would be recorded of it.

    Nothing is recorded. Exit code 2 where the file has mistakes or nothing could be recorded.
    """
    from flows.capture.source.ytdlp.version import YtDlp
    from flows.control.client.secrets import secret_of
    from flows.live.source_check import check as look
    from flows.live.way_to_source import read_sources
    from flows.show import make_show

    settings = load_settings()
    console = Console(markup=False)
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    ytdlp = YtDlp.installed()
    age = f", {ytdlp.age_days} days old" if ytdlp.age_days is not None else ""
    table.add_row("yt-dlp", f"{ytdlp.version}{age}")
    there = settings.sources_file.exists()
    table.add_row("file", f"{settings.sources_file}{'' if there else ' (is not there)'}")
    sources = read_sources(settings)
    if sources.cameras:
        table.add_row("cameras", ", ".join(sources.cameras))
    try:
        if url is not None:
            show = make_show(url=url, quality=quality)
            for name, said in look(settings, show, secret_of=secret_of):
                table.add_row(name, said)
    finally:
        console.print(table)
        for line in (*sources.mistakes, *filter(None, [ytdlp.warning])):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if sources.mistakes:
        raise typer.Exit(2)
