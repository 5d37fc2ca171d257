"""Each command of `mpdit`: what it writes, and that whatever goes wrong is one sentence."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from app import cli
from app.commands import bars
from mpdit_core.progress import track
from mpdit_core.runs import load_run

ROOT = Path(__file__).parents[1]
TRAPPED = ROOT / "tests" / "fixtures" / "map-dit" / "head-all"
COMMANDS = ("dashboard", "train", "sample", "probe", "evaluate", "report", "ema", "dynamics",
            "import", "inspect")  # fmt: skip
SMALL = ("--depth", "1", "--width", "8", "--heads", "2", "--batch", "8", "--warmup", "1",
         "--learning-rate", "0.02", "--ema-every", "2", "--save-every", "2")  # fmt: skip


@pytest.fixture
def mpdit(monkeypatch, capsys, tmp_path):
    """mpdit("sample", ...) -> (exit code, stdout, stderr), run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpdit", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        written = capsys.readouterr()
        return code, written.out, written.err

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that the command itself trained, for four steps."""
    folder = tmp_path_factory.mktemp("trained") / "small"
    arguments = ["train", "--preset", "E", "--steps", "4", "--out", str(folder), *SMALL]
    python = [sys.executable, "-m", "app", *arguments]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def sentence(said: tuple[int, str, str]) -> str:
    """The one sentence of a command that failed."""
    code, out, err = said
    assert code == 1 and out == ""
    assert re.fullmatch(r"Error: [^\n]+\n", err), err
    return err


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_describes_it_and_every_option(mpdit, command):
    code, out, err = mpdit(command, "--help")
    assert code == 0 and err == ""
    options = re.findall(r"^  (-[^ ].*)$", out, flags=re.MULTILINE)
    lines = [line for line in out.splitlines() if line.startswith("  -")]
    assert options
    described = re.sub(r"\n {10,}", "  ", out)  # an option too long for its line
    for line in lines:
        name = line.split()[0].rstrip(",")
        assert re.search(rf"{name}.*?  +\w", described), f"{name} has no description"


def test_the_help_names_every_command(mpdit):
    code, out, _ = mpdit("--help")
    assert code == 0
    assert re.findall(r"^  ([a-z]+)  +\w", out, flags=re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    """So it answers at once; seconds are not measured here, since a busy machine has slow ones."""
    heavy = ("torch", "streamlit", "pandas", "numpy", "plotly", "sklearn", "tqdm", "diffusers")
    script = (
        f"import sys; sys.argv = ['mpdit', *{arguments}]\n"
        "from app.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [name for name in {heavy} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "Usage: mpdit" in said.stdout
    assert said.stdout.splitlines()[-1] == "LOADED []", said.stderr


def test_the_module_is_the_same_command():
    said = subprocess.run(
        [sys.executable, "-m", "app", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode == 0 and said.stdout.startswith("Usage: mpdit")


# --- train ---------------------------------------------------------------------------------------


def test_training_writes_a_run_that_opens(run):
    opened = load_run(run)
    assert opened.status == "finished" and opened.steps == (0, 2, 4)
    assert opened.config.mp_residual and opened.config.width == 8
    assert opened.ema_steps == {0.05: (2, 4), 0.1: (2, 4)}


def test_the_same_command_again_has_nothing_to_do(run, mpdit):
    before = load_run(run).identity("final")
    code, out, _ = mpdit("train", "--preset", "E", "--steps", 4, "--out", run, *SMALL)
    assert code == 0 and "finished" in out
    assert load_run(run).identity("final") == before


def test_other_settings_in_the_same_folder_are_refused(run, mpdit):
    said = mpdit("train", "--preset", "A", "--steps", 4, "--out", run, *SMALL)
    assert "cosine_attention" in sentence(said)


def test_a_folder_with_a_run_json_that_is_none_is_refused_and_kept(mpdit, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.json").write_text("[]")
    said = mpdit("train", "--steps", 1, "--out", "r", *SMALL)
    assert "run.json lacks 'model'" in sentence(said)
    assert (tmp_path / "r" / "run.json").read_text() == "[]"


def test_switches_and_modulation_become_the_configuration(mpdit, tmp_path):
    code, out, err = mpdit(
        "train", "--preset", "B", "--on", "mp_silu", "--off", "cosine_attention", "--modulation",
        "scale,rotation", "--final-modulation", "none", "--steps", 1, *SMALL
    )  # fmt: skip
    assert code == 0, err
    folder = tmp_path / "runs" / "B-scale-rotation-none-mp_silu-cosine_attention"
    config = load_run(folder).config
    assert (config.mp_silu, config.cosine_attention) == (True, False)
    assert config.block_modulation == ("scale", "rotation") and config.final_modulation == ()
    assert config.gate_form == "one_plus_gate"


def test_a_folder_of_latents_can_be_trained_on(mpdit, tmp_path):
    latents = tmp_path / "latents"
    latents.mkdir()
    torch.save(torch.randn(60, 4, 4, 4), latents / "posterior_means.pt")
    torch.save(torch.rand(60, 4, 4, 4), latents / "posterior_stds.pt")
    torch.save(torch.arange(60) % 3, latents / "labels.pt")
    torch.save({"mean": torch.zeros(4), "std": torch.ones(4)}, latents / "stats.pt")
    code, _, err = mpdit("train", "--data", latents, "--steps", 1, "--out", "latent-run", *SMALL)
    assert code == 0, err
    config = load_run(tmp_path / "latent-run").config
    assert (config.channels, config.size, config.classes) == (4, 4, 3)
    assert "digits" in sentence(mpdit("evaluate", "latent-run")).lower()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--preset", "F"), "A, B, C, D, E"),
        (("--modulation", "twist"), "scale, shift, rotation, gate"),
        (("--on", "faster"), "cosine_attention"),
        (("--width", "10"), "heads 4"),
        (("--data", "nowhere"), "posterior_means.pt"),
        (("--steps", "0"), "steps"),
        (("--seed", str(2**64)), "seed"),
        (("--batch", "10000000000"), "batch"),
    ],
)
def test_wrong_values_for_training_are_one_sentence(mpdit, wrong, named):
    assert named in sentence(mpdit("train", "--out", "r", *wrong))
    assert not Path("r").exists()


# --- sample, probe, evaluate ---------------------------------------------------------------------


def test_sampling_writes_a_picture_that_depends_on_seed_and_weights(run, mpdit, tmp_path):
    pictures = {}
    for name, options in {
        "one": (), "same": (), "seed": ("--seed", 1), "weights": ("--weights", "initial")
    }.items():  # fmt: skip
        out = tmp_path / f"{name}.png"
        code, said, err = mpdit("sample", run, "--labels", "3,5", "--sampler", "ddim", "--steps",
                                4, "--guidance", 1, "--out", out, *options)  # fmt: skip
        assert code == 0 and "2 images" in said, err
        pictures[name] = np.asarray(Image.open(out))
    assert np.array_equal(pictures["one"], pictures["same"])
    assert not np.array_equal(pictures["one"], pictures["seed"])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--labels", "0,x"), "whole numbers"),
        (("--labels", "10"), "0 to 9"),
        (("--weights", "latest"), "initial, final"),
        (("--weights", "step-3"), "step-2"),
        (("--sampler", "magic"), "ddpm"),
        (("--out", "grid.jpg"), ".png"),
        (("--out", "/dev/null/grid.png"), "no file can be written there"),
    ],
)
def test_wrong_values_for_sampling_are_one_sentence(run, mpdit, wrong, named):
    assert named in sentence(mpdit("sample", run, *wrong))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_probing_writes_a_tidy_table(run, mpdit, tmp_path, ending):
    out = tmp_path / f"table.{ending}"
    code, said, err = mpdit("probe", run, "--weights", "final", "--points", "blocks.*.resid",
                            "--timesteps", "0,999", "--labels", "3,10", "--samples", 2,
                            "--out", out)  # fmt: skip
    assert code == 0 and str(out) in said, err
    table = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert set(table["point"]) == {"resid"} and set(table["timestep"]) == {0, 999}
    assert set(table["label"]) == {3, 10}
    means = table[table["statistic"] == "mean"]["value"]
    assert len(means) == 8 and (means > 0.1).all() and (means < 10).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--out", "table.txt"), ".parquet or .csv"),
        (("--points", "blocks.*.nothing"), "nothing"),
        (("--timesteps", "1000"), "0 to 999"),
        (("--source", "dreams"), "noised"),
        (("--samples", "1000000000"), "less than or equal to 10000"),
    ],
)
def test_wrong_values_for_probing_are_one_sentence(run, mpdit, wrong, named):
    assert named in sentence(mpdit("probe", run, *wrong))


def test_evaluating_prints_and_writes_what_was_measured(run, mpdit, tmp_path):
    broken = tmp_path / "runs" / "broken"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("{")
    out = tmp_path / "quality.csv"
    asked = ("--images", 20, "--seeds", "0,1", "--sampler", "ddim", "--steps", 2, "--out", out)
    code, said, err = mpdit("evaluate", run, broken, "--weights", "initial", *asked)
    assert code == 0, err
    assert "Left out" in err and "run.json" in err
    assert "recognized" in said and "small" in said
    table = pd.read_csv(out)
    drawn = table[(table["images"] == "samples") & (table["statistic"] == "recognized")]
    assert drawn["value"].between(0, 1).all() and set(drawn["seed"]) == {0, 1}


def test_wrong_seeds_are_one_sentence(run, mpdit):
    assert "seeds.1 was -1" in sentence(mpdit("evaluate", run, "--seeds", "0,-1", "--images", 8))


def test_evaluating_takes_lists_and_sweeps(run, mpdit, tmp_path):
    fast = ("--images", 8, "--seeds", "0,1,2", "--sampler", "dpmpp", "--steps", 1)
    out = tmp_path / "list.csv"
    code, _, err = mpdit("evaluate", run, "--weights", "final,ema-0.100", "--guidance", "1,2",
                         "--out", out, *fast)  # fmt: skip
    assert code == 0, err
    asked = pd.read_csv(out)[["weights", "guidance"]].drop_duplicates().to_numpy().tolist()
    assert asked == [["final", 1], ["final", 2], ["ema-0.100", 1], ["ema-0.100", 2]]
    code, _, err = mpdit("evaluate", run, "--over", "steps", "--out", out, *fast)
    assert code == 0, err
    places = pd.read_csv(out)[["weights", "at"]].drop_duplicates().to_numpy().tolist()
    assert places == [["step-2", 2], ["final", 4], ["ema-0.100-step-2", 2], ["ema-0.100", 4]]
    assert "steps, guidance, sigma" in sentence(mpdit("evaluate", run, "--over", "depth", *fast))
    assert "1,1.5,3" in sentence(mpdit("evaluate", run, "--guidance", "high", *fast))
    assert "no weights 'step-3'" in sentence(mpdit("evaluate", run, "--weights", "step-3", *fast))


# --- ema, import, inspect ------------------------------------------------------------------------


def test_an_average_of_any_width_is_written_and_explained(run, mpdit, tmp_path):
    out = tmp_path / "average.safetensors"
    code, said, err = mpdit("ema", run, "--sigma-rel", 0.15, "--out", out)
    assert code == 0, err
    assert "sum of the coefficients" in said and "fit error" in said and "health" in said
    wanted = load_run(run).state_dict("ema-0.150")
    written = load_file(out)
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], wanted[name]) for name in wanted)


def test_a_tracked_average_is_said_to_be_no_mix(run, mpdit):
    code, said, err = mpdit("ema", run, "--sigma-rel", 0.05)
    assert code == 0, err
    assert "tracked, not mixed: ema/sigma_0.050/step_0000004" in said and " x snapshot" not in said
    _, said, _ = mpdit("ema", run, "--sigma-rel", 0.0504)
    assert "EMA of sigma_rel 0.0504" in said and said.count(" x snapshot") == 4


def test_an_average_that_cannot_be_is_one_sentence(run, mpdit):
    assert "0.289" in sentence(mpdit("ema", run, "--sigma-rel", 0.5))
    assert "near-copies" in sentence(mpdit("ema", TRAPPED))


def test_a_map_dit_run_is_imported_once(mpdit, tmp_path):
    code, said, err = mpdit("import", TRAPPED, "imported")
    assert code == 0 and "near-copies" in said, err
    assert load_run(tmp_path / "imported").layout == "mpdit"
    assert "exists already" in sentence(mpdit("import", TRAPPED, "imported"))
    assert "inside" in sentence(mpdit("import", "imported", Path("imported") / "again"))


def test_an_inspection_shows_layout_parameters_and_hashes(mpdit):
    code, said, _ = mpdit("inspect", TRAPPED)
    assert code == 0
    digest = load_run(TRAPPED).checkpoint_sha256("final")
    for part in ("map-dit", "50,581", digest, "near-copy"):
        assert part in said


@pytest.mark.parametrize("command", ["sample", "probe", "evaluate", "ema", "inspect", "dashboard"])
def test_a_folder_that_is_missing_is_one_sentence(mpdit, command):
    assert "nowhere" in sentence(mpdit(command, "nowhere"))


def test_an_unexpected_error_is_one_sentence_too(run, mpdit, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("app.commands.reading.describe", fail)
    said = sentence(mpdit("inspect", run))
    assert "RuntimeError: two lines" in said and "MPDIT_TRACEBACK=1" in said


def test_the_bars_follow_nested_loops(monkeypatch):
    drawn = []

    class Bar:
        def __init__(self, total: int, desc: str, position: int, **_: object) -> None:
            self.n, self.place, self.total = 0, (desc, position), total

        def update(self, more: int) -> None:
            self.n += more

        def close(self) -> None:
            drawn.append((*self.place, self.n, self.total))

    monkeypatch.setattr(bars, "tqdm", Bar)
    with bars.shown_progress():
        for _ in track(range(2), "outer"):
            list(track(range(3), "inner"))
    assert drawn == [("inner", 1, 3, 3), ("inner", 1, 3, 3), ("outer", 0, 2, 2)]


# --- dashboard -----------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_sentence(run, mpdit):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"localhost:{port}" in sentence(mpdit("dashboard", run, "--port", port))
    assert "1 to 65535" in sentence(mpdit("dashboard", run, "--port", 70000))


def test_the_dashboard_has_its_settings_and_theme_wherever_it_is_started(tmp_path):
    options = ("theme.primaryColor", "theme.dark.backgroundColor", "browser.gatherUsageStats",
               "server.address", "server.port", "client.toolbarMode")  # fmt: skip
    script = (
        "from streamlit import config\n"
        "from streamlit.web import bootstrap\n"
        "bootstrap.run = lambda *_: None\n"
        "from app import serve\n"
        "serve._preload = lambda: None\n"
        "serve.serve([], port=1234)\n"
        f"print('SET', *[config.get_option(name) for name in {options}])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "SET #3b6fd4 #14171c False localhost 1234 minimal"


def test_the_dashboard_serves_from_any_folder(run, tmp_path, free_port):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "app", "dashboard", str(run), "--port", str(free_port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--no-browser"], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
    try:
        page = wait_for(f"http://localhost:{free_port}/_stcore/health", server, log)
        assert page == "ok"
        assert f"http://localhost:{free_port}" in log.read_text()
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, server: subprocess.Popen, log: Path) -> str:
    """The body at the address, as soon as the server answers."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except (URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"no answer from {address}: {log.read_text()}")
