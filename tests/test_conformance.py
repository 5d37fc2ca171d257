"""Runs of the paper authors' code give the numbers that their code gave; so do imported ones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mpdit_core.config import ModelConfig, modulation_study
from mpdit_core.model import MPDiT, guided
from mpdit_core.runs import Run, load_run
from mpdit_core.runs.importing import import_run
from mpdit_core.runs.shapes import parameter_count

FIXTURES = Path(__file__).parent / "fixtures" / "map-dit"
FOLDERS = sorted(folder for folder in FIXTURES.iterdir() if folder.is_dir())
AVERAGED = [folder for folder in FOLDERS if (folder / "ema").is_dir()]
GUIDANCE = 4.0

each_run = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the root mean square of theirs."""
    return float((ours - theirs).abs().max() / theirs.pow(2).mean().sqrt())


@torch.no_grad()
def errors(run: Run, folder: Path) -> tuple[float, float]:
    """Errors of a run's model on the fixture's inputs, without and with guidance."""
    fixture, model = load_file(folder / "io.safetensors"), run.model()
    out = model(fixture["x"], fixture["t"], fixture["y"])
    inputs = (fixture["cfg_x"], fixture["cfg_t"], fixture["cfg_y"])
    with_guidance = guided(model, *inputs, GUIDANCE)
    return relative_error(out, fixture["out"]), relative_error(with_guidance, fixture["cfg_out"])


def test_there_are_fixtures_of_all_three_eras():
    eras = {folder.name.split("-")[0] for folder in FOLDERS}
    assert eras == {"flags", "mods", "head"} and len(FOLDERS) >= 20


@each_run
def test_a_map_dit_run_gives_the_authors_numbers(folder):
    run = load_run(folder)
    plain, with_guidance = errors(run, folder)
    assert plain < 1e-5 and with_guidance < 5e-5
    assert run.layout == "map-dit" and run.notes["era"] == folder.name.split("-")[0]


@each_run
def test_an_imported_run_gives_the_same_numbers(folder, tmp_path):
    run = import_run(folder, tmp_path / "imported")
    plain, with_guidance = errors(run, folder)
    assert plain < 1e-5 and with_guidance < 5e-5
    assert run.layout == "mpdit"
    assert (run.config, run.data) == (load_run(folder).config, load_run(folder).data)


@each_run
def test_modulation_and_statistics_come_from_the_config_file(folder):
    run = load_run(folder)
    era, _, switched = folder.name.partition("-")
    if era == "mods":
        named = set() if switched == "nothing" else set(switched.split("_"))
        assert set(run.config.block_modulation) == named
        assert set(run.config.final_modulation) == named - {"gate"}
    if switched.startswith("only_"):
        assert getattr(run.config, switched.removeprefix("only_")) is True
    assert run.config.heads == 4
    assert run.data.mean == (0.5, -0.25, 0.125, 1.0) and run.data.std == (1.5, 0.75, 1.25, 2.0)


@pytest.mark.parametrize("folder", AVERAGED, ids=lambda folder: folder.name)
def test_the_near_copies_of_map_dit_are_not_offered_as_averages(folder, tmp_path):
    for run in (load_run(folder), import_run(folder, tmp_path / "imported")):
        assert run.ema_trap and "near-copies" in run.ema_trap
        assert not [weights for weights in run.weights() if weights.kind == "ema"]
        assert run.ema_steps == {0.05: (100, 200, 300, 400), 0.1: (100, 200, 300, 400)}


def test_rotation_in_place_of_shift_saves_the_papers_share_of_parameters():
    sizes = {"depth": 12, "width": 384, "heads": 6, "patch": 4, "channels": 4, "size": 32,
             "classes": 1000, "timestep_embedding": "fourier"}  # fmt: skip
    shift = parameter_count(modulation_study(("scale", "shift", "gate"), **sizes))
    rotation = parameter_count(modulation_study(("scale", "rotation", "gate"), **sizes))
    assert (shift, rotation) == (32_849_739, 31_080_267)
    assert 0.053 < 1 - rotation / shift < 0.055


def test_the_parameter_count_is_that_of_the_model():
    config = ModelConfig(depth=2, width=16, heads=2)
    assert parameter_count(config) == sum(p.numel() for p in MPDiT(config).parameters())
