"""A process that has loaded what takes seconds, and forks a server for each order it reads.

    python tests/browser/loaded.py    orders on stdin, process ids on stdout, one JSON a line

torch, Streamlit and the pages cost 11 s of processor time a server otherwise; the tests start
seven. When there are no more orders, all servers are ended, however the tests came to their end.
"""

import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # servers that ended leave no zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then ends the orders
    servers = []
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            become_server(**order)
        servers.append(child)
        print(child, flush=True)
    for server in servers:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
    os._exit(0)  # taking torch apart in order takes seconds


def load() -> None:
    """Import, and nothing else: what runs there are is for each server to find out."""
    sys.path[:0] = [str(ROOT)]
    for module in ("app.serve", "app.dashboard", "streamlit.web.cli", "streamlit.web.bootstrap"):
        importlib.import_module(module)
    pages = importlib.import_module("app.pages")
    for module in pkgutil.iter_modules(pages.__path__, "app.pages."):
        importlib.import_module(module.name)


def become_server(
    folder: str, port: int, log: str, environment: dict[str, str], script: str | None
) -> None:
    """Serve until the process is ended. script: an entry of its own instead of app/main.py."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    os.environ.update(environment)
    try:
        run(folder, port, script)
    except BaseException:  # whatever ends the server, the loop of orders is not for its process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def run(folder: str, port: int, script: str | None) -> None:
    if script is None:
        from app.serve import serve

        serve([Path(folder)], port, server_headless=True)
    else:
        from streamlit.web import cli

        cli.main(["run", script, "--server.headless=true", f"--server.port={port}"])


if __name__ == "__main__":
    main()
