"""The commands of `showmood`, a file a group; each has its own typer app."""
