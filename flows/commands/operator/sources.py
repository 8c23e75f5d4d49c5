"""showmood sources: checks sources.toml, and what would be recorded of a URL."""

from typing import Annotated

import typer
from rich.table import Table

from flows.commands import load_settings
from flows.commands.terminal import plain_console

app = typer.Typer(
    help="The settings of sites and cameras in sources.toml: cookies, proxies and more.",
    no_args_is_help=True,
)


@app.command()
def check(
    url: Annotated[
        str | None, typer.Argument(help="Also check what would be recorded of this page or camera.")
    ] = None,
    quality: Annotated[str, typer.Option(help="As of a show.")] = "720p",
    audio_language: Annotated[str, typer.Option(help="As of a show.")] = "",
) -> None:
    """Check sources.toml, and yt-dlp's age; with a URL, show what would be recorded of it.

    Nothing is recorded. Exit code 2 if the file has mistakes, or nothing could be recorded.
    """
    from flows.capture.source.ytdlp.version import YtDlp
    from flows.control.client.secrets import secret_of
    from flows.live.source_check import check as look
    from flows.live.way_to_source import read_sources
    from flows.show import make_show

    settings = load_settings()
    console = plain_console()
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
            show = make_show(url=url, quality=quality, audio_language=audio_language)
            for name, value in look(settings, show, secret_of=secret_of):
                table.add_row(name, value)
    except Exception as e:
        if str(e) not in sources.mistakes:  # those are printed below
            raise
    finally:
        console.print(table)
        for line in (*sources.mistakes, *filter(None, [ytdlp.warning])):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if sources.mistakes:
        raise typer.Exit(2)
