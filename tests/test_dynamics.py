"""How weights move: closed forms, folders of any model, and every alarm raised and not raised."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from analysis.dynamics import (
    COLUMNS,
    EXACT,
    DynamicsSettings,
    dynamics_of,
    largest_singular_value,
    stable_rank,
    weight_dynamics,
)
from analysis.dynamics_alarms import Thresholds, alarm_count, alarms
from analysis.dynamics_ranking import (
    dynamics_sentence,
    layer_words,
    matrices,
    ranking,
    spread,
    steps_sentence,
)
from app import cli
from mpdit_core.config import DataInfo, preset
from mpdit_core.errors import UnreadableRun, UnsafeFile
from mpdit_core.layers import force_norms
from mpdit_core.model import MPDiT
from mpdit_core.runs import load_run
from mpdit_core.runs.files import write_json, write_tensors
from mpdit_core.runs.native import FORMAT_VERSION, weights_file
from mpdit_core.runs.states import holds_states, read_state, state_files, without_step

States = dict[int, dict[str, Tensor]]


def table_of(states: States, normalization="none") -> pd.DataFrame:
    given = {step: partial(dict, state) for step, state in states.items()}
    return dynamics_of(given, normalization).assign(run="mine")


def only(table: pd.DataFrame, step: int, layer: str = "w") -> pd.Series:
    (row,) = [row for _, row in table[table["layer"] == layer].iterrows() if row["step"] == step]
    return row


def rotation(angle: float) -> Tensor:
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


# --- closed forms --------------------------------------------------------------------------------


def test_weights_scaled_by_a_factor_grow_by_it_and_do_not_turn():
    start = torch.randn(6, 4, dtype=torch.float64)
    table = table_of({100: {"w": start}, 150: {"w": 3 * start}, 350: {"w": 1.5 * start}})
    assert np.isnan(only(table, 100)[["effective_lr", "angle"]].astype(float)).all()
    middle, last = only(table, 150), only(table, 350)
    assert middle["growth"] == pytest.approx(3) and last["growth"] == pytest.approx(1.5)
    assert middle["effective_lr"] == pytest.approx(2 / 50)
    assert last["effective_lr"] == pytest.approx(0.5 / 200)
    assert middle["angle"] == pytest.approx(0, abs=1e-7)
    norms = [math.sqrt(sum(float(x) ** 2 for x in row)) for row in start]
    assert only(table, 100)["norm_mean"] == pytest.approx(sum(norms) / 6)
    assert middle["norm_max"] == pytest.approx(3 * max(norms))
    assert (middle["interval"], last["interval"], last["since"]) == (50, 200, 100)


@pytest.mark.parametrize("angle", [1e-6, 0.3, 3.0])
def test_weights_turned_by_an_angle_keep_their_norm_and_tell_it(angle):
    start = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    turned = [start @ rotation(part * angle).double().T for part in (0, 0.25, 1)]
    table = table_of({step: {"w": w} for step, w in zip((0, 10, 20), turned, strict=True)})
    last = only(table, 20)
    assert last["angle_since"] == pytest.approx(angle, rel=1e-5)
    assert last["angle"] == pytest.approx(0.75 * angle, rel=1e-5)
    assert last["growth"] == pytest.approx(1)
    chord = 2 * math.sin(0.75 * angle / 2)
    assert last["effective_lr"] == pytest.approx(chord / 10, rel=1e-5)


def test_a_rank_one_matrix_has_stable_rank_one_and_an_orthogonal_one_its_size():
    outer = torch.outer(torch.randn(5), torch.randn(7)).double()
    assert stable_rank(outer) == pytest.approx(1)
    orthogonal = torch.linalg.qr(torch.randn(6, 6).double()).Q
    assert stable_rank(orthogonal) == pytest.approx(6)
    assert stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(6 / 4)
    assert math.isnan(stable_rank(torch.zeros(3, 3)))


def test_the_largest_singular_value_of_a_large_matrix_is_near_the_exact_one():
    matrix = torch.randn(EXACT + 100, EXACT + 60)
    exact = float(np.linalg.norm(matrix.numpy(), 2))
    assert largest_singular_value(matrix) == pytest.approx(exact, rel=0.01)


def test_a_convolution_counts_all_its_inputs_and_a_vector_is_one_row():
    table = table_of(
        {0: {"conv": torch.ones(3, 2, 2, 2), "gain": torch.ones(9), "s": torch.ones(())}}
    )
    assert only(table, 0, "conv")["norm_mean"] == pytest.approx(math.sqrt(8))
    assert only(table, 0, "gain")["norm_max"] == pytest.approx(3)
    assert list(table["n"]) == [3, 1, 1] and list(table["matrix"]) == [True, False, False]


def test_a_layer_that_starts_at_zero_is_measured_from_where_it_is_not():
    states: States = {
        0: {"w": torch.zeros(2, 2)},
        10: {"w": torch.eye(2)},
        20: {"w": 4 * torch.eye(2)},
    }
    table = table_of(states)
    first, middle, last = (only(table, step) for step in (0, 10, 20))
    assert math.isnan(first["growth"]) and math.isnan(middle["effective_lr"])
    assert (middle["growth"], middle["since"]) == (1, 10)
    assert last["growth"] == pytest.approx(4) and last["effective_lr"] == pytest.approx(0.3)
    ranked = ranking(matrices(table)).iloc[0]
    assert (ranked["since"], ranked["step"], ranked["before"]) == (10, 20, 10)


def test_layers_are_ranked_by_growth_and_what_never_moves_is_left_out():
    start = {"slow": torch.ones(2, 2), "fast": torch.ones(2, 2), "buffer": torch.ones(2, 2)}
    later = {"slow": 2 * torch.ones(2, 2), "fast": 5 * torch.ones(2, 2), "buffer": torch.ones(2, 2)}
    table = table_of({0: start, 100: start, 200: later})
    ranked = ranking(matrices(table))
    assert list(ranked["layer"]) == ["fast", "slow"]
    assert ranked["exponent"].tolist() == pytest.approx([math.log2(5), 1])
    assert "fast in mine, 5 times from step 0 to 200" in dynamics_sentence(matrices(table))


def test_the_spread_is_the_ratio_of_percentiles_over_layers():
    rates = [0.1 * (number + 1) for number in range(11)]
    start = {f"w{number}": torch.eye(3) for number in range(11)}
    later = {f"w{number}": (1 + rate) * torch.eye(3) for number, rate in enumerate(rates)}
    found = spread(matrices(table_of({0: start, 10: later}))).iloc[0]
    assert found["low"] == pytest.approx(0.02) and found["high"] == pytest.approx(0.1)
    assert found["value"] == pytest.approx(5)
    assert (found["slowest"], found["fastest"], found["n"]) == ("w0", "w10", 11)


def test_the_answer_says_when_nothing_grows_and_when_it_cannot_tell():
    one = table_of({5: {"w": torch.eye(2)}})
    assert "do not tell" in dynamics_sentence(matrices(one))
    turning = table_of({0: {"w": torch.eye(2)}, 5: {"w": rotation(0.3)}})
    assert dynamics_sentence(matrices(turning)) == "No layer of mine grows."
    assert steps_sentence(turning) == "Saved steps: 0, 5."
    both = pd.concat([turning, one.assign(run="other")])
    assert steps_sentence(both) == "Saved steps: 0, 5 (mine); 5 (other)."
    assert layer_words("blocks.11.mlp.modulation.linear.weight") == "mlp.modulation of block 12"


def test_of_many_runs_the_answer_names_those_that_grow_most():
    tables = [
        table_of({0: {"w": torch.eye(2)}, 5: {"w": factor * torch.eye(2)}}).assign(run=f"r{factor}")
        for factor in range(1, 8)
    ]
    said = dynamics_sentence(matrices(pd.concat(tables, ignore_index=True)))
    assert "w in r7, 7 times" in said and "less in r4, r3 and r2" in said and "r1 grows" not in said


# --- alarms --------------------------------------------------------------------------------------


def raised(table: pd.DataFrame, **limits: float) -> dict[str, str]:
    return dict(alarms(table, Thresholds(**limits))[["alarm", "reason"]].to_numpy())


def grown(*factors: float) -> pd.DataFrame:
    """The norm at steps 0, 1000, 2000, 4000."""
    steps = (0, 1000, 2000, 4000)
    return table_of({s: {"w": f * torch.eye(4)} for s, f in zip(steps, factors, strict=True)})


def test_growth_that_goes_on_is_an_alarm_and_growth_that_ended_is_none():
    reason = raised(grown(1, 2, 4, 8))["growth"]
    assert "w, 8 times from step 0 to 4,000, by 100 % since step 2,000" in reason
    assert "step^0.25" in reason and "more than 3 times" in reason and "step^1.00" in reason
    assert "growth" not in raised(grown(1, 6, 8, 8.01))  # it grew, and has stopped
    assert "growth" not in raised(grown(1, 1.2, 1.6, 2.4))  # it grows, but is not large
    assert "growth" in raised(grown(1, 1.2, 1.6, 2.4), growth=2)


def test_whether_growth_goes_on_is_not_claimed_from_a_start_and_an_end():
    table = table_of({0: {"w": torch.eye(2)}, 100: {"w": 50 * torch.eye(2)}})
    assert raised(table) == {}
    assert math.isnan(ranking(table).iloc[0]["exponent"])


def test_vectors_raise_no_growth_alarm():
    states: States = {s: {"bias": (1.0 + s) * torch.ones(4)} for s in (0, 100, 200)}
    assert raised(table_of(states)) == {}


@pytest.mark.parametrize(("slow", "alarm"), [(0.5, False), (0.05, True)])
def test_rates_that_drifted_apart_are_an_alarm(slow, alarm):
    def layers(step: int) -> dict[str, Tensor]:
        return {f"w{n}": rotation(step * (slow if n < 5 else 1.0) / 100) for n in range(10)}

    reasons = raised(table_of({step: layers(step) for step in (0, 10, 20)}))
    assert ("spread" in reasons) is alarm
    if alarm:
        assert "between steps 10 and 20" in reasons["spread"] and "above 5" in reasons["spread"]
        assert "20 times" in reasons["spread"] and "10 weight matrices" in reasons["spread"]


@pytest.mark.parametrize(("slow", "alarm"), [(0.2, False), (0.05, True)])
def test_a_single_layer_that_hardly_learns_is_an_alarm_though_the_spread_is_small(slow, alarm):
    def layers(step: int) -> dict[str, Tensor]:
        return {f"w{n}": rotation(step * (slow if n == 7 else 1.0) / 100) for n in range(30)}

    reasons = raised(table_of({step: layers(step) for step in (0, 10, 20)}))
    assert ("left behind" in reasons) is alarm and "spread" not in reasons
    if alarm:
        assert "1 of 30 weight matrices" in reasons["left behind"]
        assert "between steps 10 and 20" in reasons["left behind"]
        assert "slowest w7, 0.0005 against 0.01 per step" in reasons["left behind"]


@pytest.mark.parametrize(
    ("normalization", "alarm"), [("weight", True), ("forced", True), ("none", False)]
)
def test_rows_stuck_at_zero_under_weight_normalization_are_an_alarm(normalization, alarm):
    states: States = {step: {"w": torch.eye(3) * 3**0.5} for step in (0, 10, 20)}
    states[10]["w"] = states[10]["w"] @ torch.diag(torch.tensor([1.0, 1.0, 1e-5]))
    states[20]["w"] = states[20]["w"].flip(1) @ torch.diag(torch.tensor([1e-5, 1.0, 1.0]))
    reasons = raised(table_of(states, normalization))
    assert ("zero rows" in reasons) is alarm
    if alarm:
        assert "1 in 1 of 1 layers, most in w, 1 of 3" in reasons["zero rows"]
        assert "0.01 at steps 10 and 20" in reasons["zero rows"]


def test_a_row_that_came_back_from_zero_is_none():
    states: States = {step: {"w": torch.eye(3)} for step in (0, 10, 20)}
    states[10]["w"] = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    states[20]["w"] = rotation(0.1).new_tensor([[1.0, 0.1, 0], [0, 1, 0], [0, 0, 1]])
    assert "zero rows" not in raised(table_of(states, "weight"))


@pytest.mark.parametrize(
    ("factor", "normalization", "alarm"),
    [(1.0, "forced", False), (1.0001, "forced", False), (1.01, "forced", True),
     (1.01, "weight", False)],
)  # fmt: skip
def test_rows_off_the_sphere_under_forced_normalization_are_an_alarm(factor, normalization, alarm):
    def forced(step: int) -> Tensor:
        weight = torch.randn(5, 9)
        weight = weight * 3 / weight.norm(dim=1, keepdim=True)
        weight[2] *= factor if step else 7  # before the first update nothing is forced
        return weight

    reasons = raised(table_of({step: {"w": forced(step)} for step in (0, 10, 20)}, normalization))
    assert ("off the sphere" in reasons) is alarm
    if alarm:
        assert "1 of 5 rows, by up to 1 %" in reasons["off the sphere"]
        assert "alarm above 0.02 %" in reasons["off the sphere"]
        assert "eps of 0.0001" in reasons["off the sphere"]


def test_rounding_to_half_precision_is_not_off_the_sphere():
    weight = torch.randn(500, 3)
    weight = weight * 3**0.5 / weight.norm(dim=1, keepdim=True)
    states: States = {step: {"w": weight.roll(step, 0).half()} for step in (10, 20)}
    assert (table_of(states, "forced")["sphere_error"] > 2e-4).all()
    assert "off the sphere" not in raised(table_of(states, "forced"))


def test_weights_that_are_not_numbers_are_an_alarm_and_break_nothing():
    states: States = {s: {"w": torch.eye(2), "v": (1.0 + s) * torch.eye(2)} for s in (0, 10, 20)}
    states[20]["w"] = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    reasons = raised(table_of(states))
    assert reasons["not finite"] == "NaN or infinity in w, from step 20 on."
    assert "v, 21 times" in reasons["growth"]


def test_without_alarms_that_is_said():
    calm = alarms(grown(1, 1, 1, 1), Thresholds())
    assert (
        alarm_count(calm, 1) == "No alarm." and alarm_count(calm, 3) == "No alarm in any of 3 runs."
    )
    assert alarm_count(alarms(grown(1, 2, 4, 8), Thresholds()), 3) == "1 alarm, in mine."


# --- our runs ------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    """trained("D", steps) -> a run of that config with random weights at these steps."""

    def write(name: str, steps=(0, 10, 20)):
        config = preset(name, depth=2, width=16, heads=2)
        folder = tmp_path / name
        model = MPDiT(config)
        for step in steps:
            for parameter in model.parameters():
                parameter.data.add_(torch.randn_like(parameter), alpha=0.1 * bool(step))
            if config.forced_weight_normalization:
                force_norms(model)
            write_tensors(weights_file(folder, step), model.state_dict(), {})
        about = {"format": FORMAT_VERSION, "name": name, "model": config.model_dump(mode="json"),
                 "data": DataInfo(name="digits").model_dump(mode="json")}  # fmt: skip
        write_json(folder / "run.json", about)
        return load_run(folder)

    return write


def test_of_a_run_every_parameter_at_every_saved_step_is_measured(trained):
    run = trained("D")
    table = weight_dynamics(run, "final", DynamicsSettings())
    assert list(table.columns) == COLUMNS
    names = {name for name, _ in MPDiT(run.config).named_parameters()}
    assert set(table["layer"]) == names and len(table) == 3 * len(names)
    first, last = (run.state_dict(which) for which in ("initial", "final"))
    name = "condition.labels.weight"
    row = table[(table["layer"] == name) & (table["step"] == 20)].iloc[0]
    ratio = np.linalg.norm(last[name], axis=1).mean() / np.linalg.norm(first[name], axis=1).mean()
    assert row["growth"] == pytest.approx(ratio, rel=1e-6)
    qkv = table[table["kind"] == "blocks.*.attn.core.qkv.weight"]
    assert set(qkv["block"]) == {0, 1} and set(qkv["normalization"]) == {"forced"}
    assert set(table.loc[table["layer"] == name, "normalization"]) == {"none"}


@pytest.mark.parametrize(("name", "scheme"), [("A", "none"), ("C", "weight"), ("E", "forced")])
def test_the_config_tells_what_is_done_to_the_rows(trained, name, scheme):
    table = weight_dynamics(trained(name, (0,)), "final", DynamicsSettings())
    assert set(table.loc[table["matrix"], "normalization"]) - {"none"} <= {scheme}
    assert (table["layer"] == "patches.linear.weight").any()
    assert set(table.loc[table["kind"].str.contains("qkv"), "normalization"]) == {scheme}


def test_a_forced_run_is_on_the_sphere_and_one_pushed_off_it_is_told(trained):
    run = trained("E")
    assert "off the sphere" not in raised(weight_dynamics(run, "final", DynamicsSettings()))
    state = run.state_dict("final")
    state["final.linear.weight"][0] *= 1.5
    write_tensors(run.raw_files[20], state, {})
    found = alarms(weight_dynamics(run, "final", DynamicsSettings()), Thresholds(), layer_words)
    reason = found.set_index("alarm").loc["off the sphere", "reason"]
    assert "farthest in final.linear at step 20, 1 of 8 rows, by up to 50 %" in reason


# --- any folder ----------------------------------------------------------------------------------


def unet(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "down.0.conv.weight": (1 + step / 100) * torch.randn(4, 2, 3, 3, generator=generator),
        "down.1.conv.weight": torch.randn(4, 4, 3, 3, generator=generator) + step / 1000,
        "norm.running_mean": torch.zeros(4),
        "norm.num_batches_tracked": torch.tensor(step),
    }


def write(file: Path, step: int) -> None:
    if file.suffix == ".safetensors":
        save_file(unet(step), file)
    else:
        torch.save(unet(step), file)


@pytest.mark.parametrize(
    "names",
    [("step_0.safetensors", "step_50.safetensors", "step_300.safetensors"),
     ("v2_0000000.pt", "v2_0000050.pt", "v2_0000300.pt"),
     ("epoch=1-step=0.ckpt", "epoch=1-step=50.pth", "epoch=3-step=300.safetensors")],
)  # fmt: skip
def test_a_folder_of_another_model_is_read_in_order_of_step(tmp_path, names):
    for step, name in reversed(list(zip((0, 50, 300), names, strict=True))):
        write(tmp_path / name, step)
    (tmp_path / "notes.txt").write_text("no weights")
    write(tmp_path / "latest.pt", 300)
    files = state_files(tmp_path)
    assert list(files) == [0, 50, 300] and holds_states(tmp_path)
    assert [file.name for file in without_step(tmp_path)] == ["latest.pt"]
    table = dynamics_of({step: partial(read_state, file) for step, file in files.items()})
    assert only(table, 300, "down.0.conv.weight")["growth"] == pytest.approx(4)
    assert "norm.num_batches_tracked" not in set(table["layer"])
    assert set(table["kind"]) >= {"down.*.conv.weight"}
    assert set(matrices(table.assign(run="u"))["layer"]) == {
        f"down.{i}.conv.weight" for i in (0, 1)
    }


@pytest.mark.parametrize(
    "wrap",
    [lambda s: s, lambda s: {"model": s, "opt": {"lr": 1}, "step": torch.tensor(1.0)},
     lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"ema": s},
     lambda s: {"std": torch.tensor(0.1), "state_dict": s},
     lambda s: {"model": {"state_dict": s}},
     lambda s: {"model": {f"module._orig_mod.{name}": t for name, t in s.items()}},
     lambda s: {f"_orig_mod.{name}": tensor for name, tensor in s.items()}],
)  # fmt: skip
def test_state_dicts_are_found_where_training_scripts_put_them(tmp_path, wrap):
    torch.save(wrap(unet(1)), tmp_path / "1.pt")
    state = read_state(tmp_path / "1.pt")
    assert set(state) == {"down.0.conv.weight", "down.1.conv.weight", "norm.running_mean"}


class Harmful:
    def __reduce__(self):
        return (print, ("it ran",))


@pytest.mark.parametrize(
    ("content", "error", "named"),
    [([1, 2], UnreadableRun, "holds a list"), ({"lr": 1}, UnreadableRun, "no weights; found: lr"),
     ({"model": {}}, UnreadableRun, "no weights; found: nothing"),
     ({"model": Harmful()}, UnsafeFile, "would run")],
)  # fmt: skip
def test_what_is_no_state_dict_is_one_sentence(tmp_path, content, error, named, capsys):
    torch.save(content, tmp_path / "1.pt")
    with pytest.raises(error, match=named) as raised:
        read_state(tmp_path / "1.pt")
    assert "\n" not in str(raised.value) and "it ran" not in capsys.readouterr().out


def test_folders_without_an_order_are_one_sentence(tmp_path):
    for folder, named in ((tmp_path / "none", "no folder"), (tmp_path, "no weights in order")):
        with pytest.raises(UnreadableRun, match=named):
            state_files(folder)
    write(tmp_path / "a_7.pt", 7)
    write(tmp_path / "b_7.safetensors", 7)
    with pytest.raises(UnreadableRun, match="two files of step 7, a_7.pt and b_7.safetensors"):
        state_files(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"extra": torch.ones(2)}, "it has 'extra'"), ({"w": torch.ones(2, 3)}, r"'w' is \(2, 3\)"),
     ({"w": None}, "it lacks 'w'")],
)  # fmt: skip
def test_files_of_different_models_are_not_compared(change, named):
    first = {"w": torch.eye(2), "v": torch.eye(2)}
    later = {name: t for name, t in (first | change).items() if t is not None}
    with pytest.raises(UnreadableRun, match=named):
        table_of({0: first, 1: later})


# --- mpdit dynamics ------------------------------------------------------------------------------


@pytest.fixture
def mpdit(monkeypatch, capsys):
    """mpdit("dynamics", ...) -> (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpdit", "dynamics", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def folder(tmp_path) -> Path:
    inner = tmp_path / "unet"
    inner.mkdir()
    for step in (0, 100, 300):
        write(inner / f"{step:07d}.pt", step)
    write(inner / "latest.pt", 300)
    return inner


def test_the_command_ranks_the_layers_of_any_model_and_raises_alarms(mpdit, folder):
    code, said, err = mpdit(folder)
    assert code == 0 and "latest.pt has no step" in err
    assert "2 of them weight matrices that moved. Saved steps: 0, 100, 300." in said
    first, second = [line.split() for line in said.splitlines() if line.startswith("down") or
                     line.strip().startswith("down.")]  # fmt: skip
    assert first[:3] == ["down.0.conv.weight", "4", "0"] and second[0] == "down.1.conv.weight"
    assert "Growth without bound: 1 of 2 weight matrices" in said
    assert "by 100 % since step 100" in said
    assert "No alarm." in mpdit(folder, "--max-growth", 4.5, "--max-spread", 1000)[1]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_the_command_writes_every_layer_and_step(mpdit, folder, ending):
    out = folder.parent / f"table.{ending}"
    code, said, _ = mpdit(folder, "--out", out, "--top", 1)
    assert code == 0 and f"{out}: 9 rows" in said and "down.1.conv.weight  " not in said
    table = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert set(table["step"]) == {0, 100, 300} and set(table["run"]) == {"unet"}
    assert only(table, 300, "down.0.conv.weight")["growth"] == pytest.approx(4)


def test_the_command_knows_what_a_run_does_to_its_rows(mpdit, trained):
    run = trained("E")
    code, said, _ = mpdit(run.folder)
    assert code == 0 and "No alarm." in said
    state = run.state_dict("final")
    state["final.linear.weight"][0] *= 1.5
    write_tensors(run.raw_files[20], state, {})
    assert "off the sphere" in mpdit(run.folder)[1]
    assert "off the sphere" not in mpdit(run.folder, "--normalization", "none")[1]
    assert "off the sphere" in mpdit(run.folder / "weights", "--normalization", "forced")[1]


def test_one_saved_step_has_no_ranking(mpdit, trained):
    code, said, _ = mpdit(trained("A", (0,)).folder)
    assert code == 0 and "there is no ranking" in said and "No alarm." in said


@pytest.mark.parametrize(
    ("wrong", "named"),
    [(("nowhere",), "no folder nowhere"), ((".",), "no weights in order of step"),
     (("unet", "--out", "table.txt"), ".parquet or .csv"),
     (("unet", "--normalization", "rows"), "none, weight, forced"),
     (("unet", "--max-growth", "0.5"), "growth was 0.5")],
)  # fmt: skip
def test_wrong_uses_of_the_command_are_one_sentence(mpdit, folder, monkeypatch, wrong, named):
    monkeypatch.chdir(folder.parent)
    code, out, err = mpdit(*wrong)
    assert code == 1 and out == "" and err.startswith("Error: ") and err.count("\n") == 1
    assert named in err
