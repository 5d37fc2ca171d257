"""Start the dashboard's server in this process, with everything heavy loaded before it listens.

Streamlit loads the script when the first browser comes; torch alone takes seconds then.
"""

import importlib
import os
import pkgutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MAIN = Path(__file__).with_name("main.py")


def serve(
    folders: Sequence[Path], port: int = 8501, host: str = "localhost", **options: Any
) -> None:
    """Show the runs in these folders at http://host:port until the process is ended.

    options: further settings of Streamlit, written `server_headless=True`."""
    os.environ["MPDIT_RUNS"] = os.pathsep.join(str(Path(folder).resolve()) for folder in folders)
    # Jobs of small models hold the interpreter most of the time. Asked for it every 0.2 ms instead
    # of 5, a page beside two of them answers three times sooner, and they lose nothing (measured).
    sys.setswitchinterval(0.0002)
    _preload()
    _share_cores()
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.web import bootstrap

    # Until the first script has called `st.navigation`, Streamlit takes the folder `pages` beside
    # it for pages of its own: a link to /samples, opened first of all, would show nothing.
    PagesManager.uses_pages_directory = False
    flags = {**_settings(), "server_port": port, "server_address": host, **options}
    bootstrap.load_config_options(flags)
    bootstrap.run(str(MAIN), False, [], flags)


def _share_cores() -> None:
    """Threads of one operation wait for each other by spinning: two jobs that each take every core
    needed 28 s for what one thread does in 0.7 (measured on two busy cores)."""
    import torch

    from app.jobs import AT_ONCE

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // AT_ONCE))


def _settings() -> dict[str, Any]:
    """The settings beside main.py, as flags: Streamlit itself looks for them in the current folder
    only when it is started by its own command."""
    sections = tomllib.loads(MAIN.with_name(".streamlit").joinpath("config.toml").read_text())
    return dict(_flat(sections, ""))


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", value


def _preload() -> None:
    import app.dashboard
    import app.pages

    app.dashboard.current_library()
    for module in pkgutil.iter_modules(app.pages.__path__, "app.pages."):
        importlib.import_module(module.name)
