"""`mpdit dashboard`."""

import socket
from collections.abc import Sequence
from pathlib import Path

import typer

from app.library import run_folders
from app.serve import serve
from mpdit_core.errors import InvalidConfig, UnreadableRun


def open_dashboard(folders: Sequence[Path], port: int, host: str, browser: bool) -> None:
    """Check what would go wrong later, then serve until the process is ended."""
    for folder in folders:
        if not folder.is_dir():
            raise UnreadableRun(f"There is no folder {folder}; name folders of runs")
    _refuse_taken(port, host)
    shown = "localhost" if host in ("0.0.0.0", "::", "") else host
    typer.echo(f"The dashboard opens at http://{shown}:{port}; end it with Ctrl+C")
    serve(folders or run_folders(), port, host, server_headless=not browser)


def _refuse_taken(port: int, host: str) -> None:
    if not 1 <= port <= 65535:
        raise InvalidConfig(f"port was {port}; it should be 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidConfig(
                f"{host}:{port} cannot be listened on ({error.strerror}); "
                "choose another with --port"
            ) from None
