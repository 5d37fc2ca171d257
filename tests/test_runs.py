"""Folders that are damaged, hostile or odd: each is refused in one sentence, and the rest works."""

import json
import os
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from mpdit_core.config import TrainConfig, preset
from mpdit_core.data import digits
from mpdit_core.ema import reconstruct
from mpdit_core.errors import (
    AlreadyExists,
    InvalidConfig,
    MPDiTError,
    NoSuchWeights,
    UnreadableRun,
    UnsafeFile,
)
from mpdit_core.runs import BrokenRun, Run, Weights, find_runs, load_run
from mpdit_core.runs.importing import import_run
from mpdit_core.runs.inspecting import describe, health_lines
from mpdit_core.runs.pickles import read_pickle
from mpdit_core.training import train
from tests.browser.small_runs import write_run

FIXTURES = Path(__file__).parent / "fixtures" / "map-dit"
CHECKPOINT = "checkpoints/0000400.pt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A small run of four steps, with snapshots of both averages at every step."""
    folder = tmp_path_factory.mktemp("trained") / "small"
    training = TrainConfig(steps=4, batch=8, warmup=1, learning_rate=0.05, save_every=2,
                           ema_every=1, evaluate_every=4)  # fmt: skip
    train(folder, preset("E", depth=1, width=8, heads=2), training, digits())
    return folder


@pytest.fixture
def native(trained, tmp_path) -> Path:
    """A copy of the trained run, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "native"))


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A copy of a map-dit run with snapshots, to be damaged."""
    return Path(shutil.copytree(FIXTURES / "mods-scale_gate_rotation", tmp_path / "runs/foreign"))


def rewrite_config(folder: Path, **changes: object) -> None:
    """Change entries of config.yaml; None removes one."""
    file = folder / "config.yaml"
    content = yaml.safe_load(file.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(yaml.safe_dump(kept))


def rewrite_checkpoint(folder: Path, change) -> None:
    """Let `change` edit the model's state dict of the map-dit checkpoint."""
    file = folder / CHECKPOINT
    content = torch.load(file, weights_only=True)
    change(content["model"])
    torch.save(content, file)


def refusal(folder: Path) -> str:
    """The sentence with which the folder is refused, as find_runs lists it too."""
    with pytest.raises(UnreadableRun) as caught:
        load_run(folder)
    (listed,) = find_runs(folder)
    assert isinstance(listed, BrokenRun) and listed.reason == str(caught.value)
    assert "\n" not in listed.reason and len(listed.reason) < 700
    return listed.reason


# --- files that would run code -------------------------------------------------------------------


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch '{self.marker}'",))


def plain_pickle(content: object, file: Path, protocol: int) -> None:
    file.write_bytes(pickle.dumps(content, protocol=protocol))


WRITERS = {
    "torch.save": lambda content, file: torch.save(content, file),
    "torch.save before 1.6": lambda content, file: torch.save(
        content, file, _use_new_zipfile_serialization=False
    ),
    "pickle 0": lambda content, file: plain_pickle(content, file, 0),
    "pickle 2": lambda content, file: plain_pickle(content, file, 2),
    "pickle 5": lambda content, file: plain_pickle(content, file, 5),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["model", "opt", "whole file"])
def test_a_checkpoint_with_code_is_not_opened(foreign, tmp_path, writer, place):
    marker = tmp_path / "executed"
    good = torch.load(foreign / CHECKPOINT, weights_only=True)
    content = Trap(marker) if place == "whole file" else good | {place: Trap(marker)}
    WRITERS[writer](content, foreign / CHECKPOINT)
    with pytest.raises(UnsafeFile, match="system"):
        load_run(foreign)
    assert "was not opened" in refusal(foreign)
    assert not marker.exists()


def test_the_trap_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_a_snapshot_with_code_is_not_opened(foreign, tmp_path):
    torch.save({"std": 0.1, "t": 400, "state_dict": Trap(tmp_path / "executed")},
               foreign / "ema" / "0.100_0000400.pt")  # fmt: skip
    with pytest.raises(UnsafeFile):
        load_run(foreign)
    assert not (tmp_path / "executed").exists()


def test_a_config_file_with_code_is_not_run(foreign, tmp_path):
    marker = tmp_path / "executed"
    (foreign / "config.yaml").write_text(
        f"model: !!python/object/apply:os.system ['touch {marker}']\n"
    )
    assert "no plain YAML" in refusal(foreign)
    assert not marker.exists()


def test_a_whole_model_is_refused_as_unsafe(foreign):
    torch.save({"model": torch.nn.Linear(2, 2)}, foreign / CHECKPOINT)
    with pytest.raises(UnsafeFile, match="Linear"):
        load_run(foreign)


def test_a_compressed_checkpoint_is_refused_before_it_unpacks(foreign, tmp_path):
    source, target = foreign / CHECKPOINT, tmp_path / "compressed.pt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("archive/data/bomb", bytes(10_000_000))
    shutil.move(target, source)
    assert "compressed" in refusal(foreign)


# --- files that are damaged ----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_map_dit_checkpoint_is_refused_in_a_sentence(foreign, share):
    file = foreign / CHECKPOINT
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert CHECKPOINT in refusal(foreign)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_safetensors_are_refused_in_a_sentence(native, share):
    file = native / "weights" / "step_0000004.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert "step_0000004.safetensors is no complete safetensors file" in refusal(native)


def test_a_truncated_snapshot_leaves_the_raw_weights_usable(foreign):
    file = foreign / "ema" / "0.100_0000400.pt"
    file.write_bytes(file.read_bytes()[:1000])
    run = load_run(foreign)
    assert run.model("final") is not None
    with pytest.raises(NoSuchWeights, match=r"0\.100_0000400\.pt"):
        run.model("ema-0.100")


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_never_give_anything_but_a_run_or_a_sentence(foreign, seed):
    file = foreign / CHECKPOINT
    data = bytearray(file.read_bytes())
    generator = torch.Generator().manual_seed(seed)
    # Half of them at the start, where the structure lies.
    for limit in (4000, len(data)):
        for place in torch.randint(limit, (8,), generator=generator).tolist():
            data[place] ^= 0xFF
    file.write_bytes(data)
    try:
        load_run(foreign).model()
    except MPDiTError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / "config.yaml").unlink(), "config.yaml"),
        (lambda f: (f / CHECKPOINT).unlink(), "checkpoints"),
        (lambda f: (f / "config.yaml").write_bytes(b"\x00\xff\xfe"), "config.yaml"),
        (lambda f: (f / "config.yaml").write_text(""), "config.yaml"),
        (lambda f: (f / "config.yaml").write_text("- a\n- b\n"), "mapping"),
        (lambda f: (f / "config.yaml").write_text("a: [" * 5000), "config.yaml"),
        (lambda f: (f / "config.yaml").write_text("#" * 2_000_000), "1 MiB"),
        (lambda f: rewrite_config(f, model="something"), "something"),
        (lambda f: rewrite_config(f, model=["DiT-XS/2"]), "model"),
        (lambda f: rewrite_config(f, model=None), "model"),
        (lambda f: rewrite_config(f, in_channels=7), "in_channels"),
        (lambda f: rewrite_config(f, in_channels="x" * 10_000), "in_channels"),
        (lambda f: rewrite_config(f, use_scale_mod="perhaps"), "use_scale_mod"),
        (lambda f: rewrite_config(f, use_rotation_mod=False), "rules out"),
        (lambda f: rewrite_config(f, use_shift_mod=True), "lacks"),
        (lambda f: rewrite_config(f, stats_mean=[0.0]), "stats_mean"),
        (lambda f: rewrite_config(f, stats_mean=float("nan")), "stats_mean"),
        (lambda f: torch.save([1, 2], f / CHECKPOINT), "state dict"),
        (lambda f: torch.save({"model": {"a": 3}}, f / CHECKPOINT), "no tensor"),
        (lambda f: torch.save({"model": {}}, f / CHECKPOINT), "state dict"),
        (lambda f: rewrite_checkpoint(f, lambda s: s.pop("pos_embed")), "pos_embed"),
        (lambda f: rewrite_checkpoint(f, lambda s: s.pop("blocks.1.gate2.net.1.gain")), "gate2"),
        (lambda f: rewrite_checkpoint(f, lambda s: s.update(extra=torch.ones(1))), "extra"),
        (
            lambda f: rewrite_checkpoint(
                f, lambda s: s.update({"blocks.1.attn.out_proj.weight": torch.ones(32, 31)})
            ),
            "(32, 31)",
        ),
    ],
)
def test_a_damaged_map_dit_run_says_what_is_wrong(foreign, damage, named):
    damage(foreign)
    assert named in refusal(foreign)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / "run.json").write_text("{"), "run.json"),
        (lambda f: (f / "run.json").write_text("[]"), "format"),
        (lambda f: (f / "run.json").write_bytes(b"\xff\xfe\x00"), "run.json"),
        (lambda f: (f / "run.json").write_text("[" * 100_000), "run.json"),
        (lambda f: shutil.rmtree(f / "weights"), "weights"),
        (lambda f: rewrite_json(f, model={"depth": "many"}), "depth"),
        (lambda f: rewrite_json(f, data=3), "run.json"),
        (lambda f: rewrite_json(f, data={"name": "digits", "std": [0]}), "std.0 was 0"),
        (lambda f: rewrite_json(f, data={"name": "digits", "mean": [0, 1]}), "2 numbers"),
        (lambda f: rewrite_json(f, format=99), "99"),
        (lambda f: rewrite_json(f, training=[1]), "run.json"),
        (lambda f: rewrite_json(f, model=preset("A").model_dump()), "does not fit"),
    ],
)
def test_a_damaged_run_folder_says_what_is_wrong(native, damage, named):
    damage(native)
    assert named in refusal(native)


def rewrite_json(folder: Path, **changes: object) -> None:
    file = folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_missing_folder_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(UnreadableRun, match="no folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(UnreadableRun, match="mpdit, map-dit"):
        load_run(tmp_path)
    assert find_runs(tmp_path) == [] and find_runs(tmp_path / "nowhere") == []


# --- folders of runs -----------------------------------------------------------------------------


def test_a_broken_run_is_listed_with_its_reason_and_the_others_work(native, foreign):
    (foreign / "config.yaml").unlink()
    broken, works = sorted(find_runs(native.parent), key=lambda run: run.name)
    assert isinstance(broken, BrokenRun) and "config.yaml" in broken.reason
    assert isinstance(works, Run) and works.model() is not None


def test_links_that_lead_in_circles_end_and_list_each_run_once(native):
    (native.parent / "a-circle").symlink_to(native.parent)
    (native.parent / "itself").symlink_to(native.parent / "itself")
    (native.parent / "z-again").symlink_to(native)
    assert [run.folder for run in find_runs(native.parent)] == [native]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_may_not_be_read_is_listed_with_its_reason(native, foreign):
    native.chmod(0)
    try:
        reasons = [run.reason for run in find_runs(native.parent) if isinstance(run, BrokenRun)]
    finally:
        native.chmod(0o755)
    assert len(reasons) == 1 and "Permission denied" in reasons[0]


def test_a_folder_that_fails_to_list_is_named_and_the_others_work(native, foreign, monkeypatch):
    """As a permission would, for the superuser's tests too."""
    is_file = Path.is_file

    def refused(path: Path) -> bool:
        if path.parent == native:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    found = {run.name: run for run in find_runs(native.parent)}
    assert "Permission denied" in found["native"].reason
    assert isinstance(found["foreign"], Run)


# --- what a run gives ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["initial", "final", "step-2500", "ema-0.100", "ema-0.1234", "ema-0.100-step-2500"]
)
def test_weights_have_a_text_form_that_reads_back(text):
    assert str(Weights.parse(text)) == text
    assert Weights.parse(Weights.parse(text)) == Weights.parse(text)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.05004, 0.0504, 0.12345, 0.005])
def test_a_name_tells_which_average_it_is(sigma_rel):
    weights = Weights("ema", sigma_rel=sigma_rel)
    assert Weights.parse(str(weights)) == weights
    assert weights.sigma_rel == pytest.approx(sigma_rel, abs=5.1e-5)


@pytest.mark.parametrize("text", ["", "last", "step-", "step--1", "ema-1.5", "ema-", "x" * 1000])
def test_other_texts_are_refused_with_the_forms(text):
    with pytest.raises(NoSuchWeights, match="initial, final, step-2500, ema-0.100") as caught:
        Weights.parse(text)
    assert len(str(caught.value)) < 200


def test_weights_that_are_not_saved_are_refused_with_those_that_are(trained):
    with pytest.raises(NoSuchWeights, match="initial, step-2, final, ema-0.050, ema-0.100"):
        load_run(trained).model("step-3")
    with pytest.raises(NoSuchWeights, match=r"0\.050, 0\.100"):
        load_run(trained).model("ema-0.5")


def test_an_average_of_any_width_is_the_mix_of_the_snapshots(trained):
    run = load_run(trained)
    steps, sigmas = [1, 2, 3, 4] * 2, [0.05] * 4 + [0.1] * 4
    shares = reconstruct(steps, sigmas, 4, 0.2).coefficients
    files = [
        trained / "ema" / f"sigma_{sigma:.3f}" / f"step_{step:07d}.safetensors"
        for sigma, step in zip(sigmas, steps, strict=True)
    ]
    name = "blocks.0.attn.core.out.weight"
    by_hand = sum(s * load_file(f)[name].double() for s, f in zip(shares, files, strict=True))
    mixed = run.state_dict("ema-0.200")
    assert_close(mixed[name].double(), by_hand, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(mixed[name], run.state_dict("final")[name])
    assert torch.equal(mixed["patches.position"], run.state_dict("final")["patches.position"])


def test_a_width_near_a_tracked_one_is_mixed_all_the_same(trained):
    run, name = load_run(trained), "blocks.0.attn.core.out.weight"
    assert run.tracked("ema-0.050") == (0.05, 4, run.ema_files[0.05][4])
    assert run.tracked("ema-0.0504") is None and run.tracked("ema-0.200") is None
    shares = run.reconstruction(0.0504).coefficients
    parts = zip(shares, run.snapshots(), strict=True)
    by_hand = sum(share * run.read(file)[name].double() for share, (_, _, file) in parts)
    mixed = run.state_dict("ema-0.0504")[name].double()
    assert_close(mixed, by_hand, rtol=1e-6, atol=1e-6)
    assert not torch.equal(mixed, run.state_dict("ema-0.050")[name].double())


def test_tracked_widths_of_four_decimals_keep_files_of_their_own(tmp_path):
    training = TrainConfig(steps=2, batch=8, ema_every=1, sigma_rels=(0.05, 0.0504))
    train(tmp_path / "run", preset("E", depth=1, width=8, heads=2), training, digits())
    run = load_run(tmp_path / "run")
    assert run.ema_steps == {0.05: (1, 2), 0.0504: (1, 2)}
    assert [str(weights) for weights in run.weights()][-2:] == ["ema-0.050", "ema-0.0504"]
    assert "heldout_loss_ema_0.0504" in run.metrics()[-1]


def test_an_average_of_an_earlier_step_knows_nothing_of_later_ones(trained):
    run = load_run(trained)
    saved = load_file(trained / "ema" / "sigma_0.100" / "step_0000002.safetensors")
    earlier = run.state_dict("ema-0.100-step-2")
    assert all(torch.equal(earlier[name], tensor.float()) for name, tensor in saved.items())
    other = replace(run, ema_files={sigma: {step: file for step, file in files.items() if step < 4}
                                    for sigma, files in run.ema_files.items()})  # fmt: skip
    mixed, expected = run.state_dict("ema-0.200-step-3"), other.state_dict("ema-0.200")
    assert all(torch.equal(mixed[name], expected[name]) for name in expected)
    assert run.identity("ema-0.200-step-3") != run.identity("ema-0.200")
    with pytest.raises(NoSuchWeights, match="no EMA at step 7 .* saved at 1, 2, 3, 4"):
        run.model("ema-0.100-step-7")


def test_the_identity_changes_with_bytes_and_with_config_but_not_with_the_name(native, tmp_path):
    before = load_run(native).identity("final")
    moved = Path(shutil.copytree(native, tmp_path / "another"))
    rewrite_json(moved, name="another")
    assert load_run(moved).identity("final") == before
    assert load_run(moved).identity("initial") != before
    config = load_run(native).config.model_dump() | {"pairing": "adjacent"}
    rewrite_json(moved, model=config)
    other_config = load_run(moved).identity("final")
    file = native / "weights" / "step_0000004.safetensors"
    state = load_file(file)
    save_file(state | {"final.gain": state["final.gain"] + 1}, file)
    assert len({before, other_config, load_run(native).identity("final")}) == 3


# --- map-dit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["use_rotation_mod", "use_gate_mod", "use_shift_mod"])
def test_a_mods_run_whose_config_lacks_an_entry_is_told_by_its_weights(foreign, lacking):
    whole = load_run(foreign)
    rewrite_config(foreign, **{lacking: None})
    assert load_run(foreign).config == whole.config


def test_scale_or_shift_alone_cannot_be_told_by_the_weights(foreign):
    rewrite_config(foreign, use_scale_mod=None, use_shift_mod=None)
    assert "use_scale_mod and use_shift_mod" in refusal(foreign)


def test_a_missing_switch_of_the_ladder_is_not_guessed(tmp_path):
    folder = Path(shutil.copytree(FIXTURES / "flags-all", tmp_path / "flags"))
    rewrite_config(folder, use_cosine_attention=None)
    assert "use_cosine_attention" in refusal(folder)


def test_checkpoints_of_several_steps_are_the_weights_of_those_steps(foreign):
    shutil.copy(foreign / CHECKPOINT, foreign / "checkpoints" / "0000800.pt")
    rewrite_checkpoint(foreign, lambda state: state["final_layer.linear.gain"].fill_(7.0))
    run = load_run(foreign)
    assert [str(weights) for weights in run.weights()] == ["step-400", "final"]
    assert run.state_dict("step-400")["final.gain"] == 7.0 != run.state_dict("final")["final.gain"]


def real_averages(folder: Path) -> None:
    """Replace the near-copies by files that lag behind the raw weights, as averages do."""
    last = torch.load(folder / "ema" / "0.100_0000300.pt", weights_only=True)["state_dict"]
    raw = torch.load(folder / CHECKPOINT, weights_only=True)["model"]
    for sigma, share in ((0.05, 0.4), (0.1, 0.7)):
        mixed = {name: (share * last[name].float() + (1 - share) * raw[name]).half()
                 for name in raw}  # fmt: skip
        content = {"std": sigma, "t": 400, "state_dict": mixed}
        torch.save(content, folder / "ema" / f"{sigma:.3f}_0000400.pt")


def test_real_averages_are_offered_and_keep_the_exact_buffers(foreign):
    real_averages(foreign)
    run = load_run(foreign)
    assert run.ema_trap is None
    assert [str(weights) for weights in run.weights()] == ["final", "ema-0.050", "ema-0.100"]
    averaged, raw = run.state_dict("ema-0.100"), run.state_dict("final")
    assert torch.equal(averaged["condition.features.scale"], raw["condition.features.scale"])
    assert not torch.allclose(averaged["patches.linear.weight"], raw["patches.linear.weight"])


def test_snapshots_without_a_checkpoint_of_their_step_are_not_trusted(foreign):
    for file in (foreign / "ema").glob("*_0000400.pt"):
        file.unlink()
    assert "cannot be checked" in str(load_run(foreign).ema_trap)


def test_a_snapshot_under_a_false_name_is_not_taken_for_what_it_says(foreign):
    shutil.copy(foreign / "ema" / "0.050_0000300.pt", foreign / "ema" / "0.100_0000400.pt")
    assert "does not say what it holds" in str(load_run(foreign).ema_trap)


# --- importing and inspecting --------------------------------------------------------------------


def test_an_import_leaves_nothing_behind_when_it_fails(foreign, tmp_path):
    file = foreign / "ema" / "0.050_0000100.pt"
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(UnreadableRun, match=r"0\.050_0000100"):
        import_run(foreign, tmp_path / "out" / "imported")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_import_overwrites_nothing(foreign, tmp_path):
    target = tmp_path / "there"
    target.mkdir()
    (target / "precious").touch()
    with pytest.raises(AlreadyExists, match="exists already"):
        import_run(foreign, target)
    assert [path.name for path in target.iterdir()] == ["precious"]


def test_an_imported_average_is_an_average_still(foreign, tmp_path):
    real_averages(foreign)
    imported, run = import_run(foreign, tmp_path / "imported"), load_run(foreign)
    assert imported.weights() == run.weights() and imported.name == "imported"
    for name, tensor in run.state_dict("ema-0.100").items():
        assert_close(imported.state_dict("ema-0.100")[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_run_folder_of_ones_own_can_be_imported_too(trained, tmp_path):
    imported, run = import_run(trained, tmp_path / "copy"), load_run(trained)
    assert imported.metrics() == run.metrics() and imported.training == run.training
    assert torch.equal(imported.state_dict()["final.gain"], run.state_dict()["final.gain"])


def test_an_inspection_names_layout_config_parameters_and_hashes(trained):
    text = "\n".join(describe(load_run(trained)))
    hashed = load_run(trained).checkpoint_sha256("final")
    for part in ("mpdit", "cosine_attention", "8 x 8", hashed, "EMA 0.050 at step"):
        assert part in text


def test_the_health_of_averages_is_told_with_the_numbers_it_rests_on(trained):
    assert "average" in health_lines(load_run(trained))[0]
    trapped = health_lines(load_run(FIXTURES / "head-all"))
    assert "near-copy, only 0.87%" in trapped[0] and "not offered as averages" in trapped[-1]
    assert health_lines(load_run(FIXTURES / "mods-scale")) == ["no EMA snapshots are saved"]


def test_a_pickle_of_tensors_opens_as_it_was_saved(tmp_path):
    content = {"a": torch.arange(3.0), "b": {"c": [1, 2.5, "x", None]}}
    for name, write in WRITERS.items():
        if name.startswith("torch"):
            write(content, tmp_path / "x.pt")
            assert str(read_pickle(tmp_path / "x.pt")) == str(content)


@pytest.mark.parametrize(
    "change",
    [{"block_modulation": None}, {"block_modulation": 5}, {"final_modulation": None},
     {"classes": 10**30}],
)  # fmt: skip
def test_a_configuration_of_wrong_types_is_a_broken_run_beside_the_others(tmp_path, change):
    for name in ("good", "bad"):
        write_run(tmp_path, name, preset("A", depth=1, width=8, heads=1))
    about = json.loads((tmp_path / "bad" / "run.json").read_text())
    about["model"] |= change
    (tmp_path / "bad" / "run.json").write_text(json.dumps(about))
    bad, good = find_runs(tmp_path)
    assert isinstance(bad, BrokenRun) and isinstance(good, Run)
    assert str(bad.folder) in bad.reason


def test_a_name_that_markdown_would_load_from_elsewhere_is_refused(tmp_path):
    folder = write_run(tmp_path, "x", preset("A", depth=1, width=8, heads=1))
    about = json.loads((folder / "run.json").read_text())
    about["name"] = "![x](http://example.org/x.png)"
    (folder / "run.json").write_text(json.dumps(about))
    with pytest.raises(UnreadableRun, match="link or an image"):
        load_run(folder)


def test_a_pipe_among_the_weights_does_not_stop_the_reading(tmp_path):
    folder = write_run(tmp_path, "x", preset("A", depth=1, width=8, heads=1))
    os.mkfifo(folder / "weights" / "step_0000500.safetensors")
    assert load_run(folder).steps == (0, 200, 400)


def test_a_size_whose_positions_would_fill_memory_is_refused():
    with pytest.raises(InvalidConfig, match="at most 65,536"):
        preset("A", size=20000, patch=1)
