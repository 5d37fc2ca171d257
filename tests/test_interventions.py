"""Interventions against a forward pass written out by hand, against models built without the part,
sample by sample, from several threads, and as text."""

import contextvars
import threading

import pytest
import torch
from every_model import every_config, inputs, random_model
from hypothesis import given
from hypothesis import strategies as st

from mpdit_core.errors import ImpossibleIntervention, InvalidConfig
from mpdit_core.interventions import (
    ScaleAngle,
    ScaleBranch,
    SetSignal,
    SkipBranch,
    ZeroChannels,
    intervening,
    parse_interventions,
    written,
)
from mpdit_core.layers import mp_sum, rotate, rotate_adjacent
from mpdit_core.model import guided
from mpdit_core.points import visiting

EVERY = every_config()
FULL = EVERY["study scale+shift+rotation+gate"]
NAMES = ("A", "C", "E", "study scale+shift+rotation+gate", "head", "adjacent pairs")


def out_of(model, batch, *interventions):
    with intervening(model, interventions):
        return model(*batch)


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def signals_by_hand(model, place, t, y):
    """The signals of a branch, from the condition's linears alone."""
    activated = model.activation(model.condition(t, y))
    values = place.modulation.linear(activated).split(place.modulation.widths, dim=-1)
    gains = place.modulation.gain if place.modulation.gain is not None else [1.0] * len(values)
    return {s: v * g for s, v, g in zip(place.modulation.signals, values, gains, strict=True)}


def forward_by_hand(model, batch, change):
    """The whole forward pass in plain arithmetic; change(block, branch, what, value) -> value."""
    x, t, y = batch
    config, stream = model.config, model.patches(batch[0])
    for block, both in enumerate(model.blocks):
        for branch in ("attn", "mlp"):
            place = getattr(both, branch)
            found = signals_by_hand(model, place, t, y) if place.modulation else {}
            value = {s: change(block, branch, s, v) for s, v in found.items()}
            tokens = place.norm(stream)
            tokens = modulated_by_hand(config, place, tokens, value)
            output = place.core(change(block, branch, "in", tokens))
            output = change(block, branch, "out", output)
            if "gate" in value:
                plus = 1 if config.gate_form == "one_plus_gate" else 0
                output = output * (value["gate"] + plus)[:, None]
            output = change(block, branch, "gated", output)
            before = stream
            stream = mp_sum(stream, output, 0.3) if config.mp_residual else stream + output
            stream = change(block, branch, "skip", (before, stream))
            stream = change(block, branch, "stream", stream)
    condition = model.condition(t, y)
    return model.final(stream, condition, model.activation(condition))


def modulated_by_hand(config, place, tokens, value):
    if "scale" in value:
        plus = 1 if config.modulation_form == "affine" else 0
        tokens = tokens * (value["scale"] + plus)[:, None]
    if "shift" in value:
        shift = value["shift"][:, None]
        affine = config.modulation_form == "affine"
        tokens = tokens + shift if affine else mp_sum(tokens, shift, place.modulate.share)
    if "rotation" in value:
        turn = rotate if config.pairing == "half" else rotate_adjacent
        tokens = turn(tokens, value["rotation"])
    return tokens


def unchanged(block, branch, what, value):
    return value[1] if what == "skip" else value


def changing(wanted, new):
    """Change one kind of value in block 0 (and in others, if wanted says so)."""

    def change(block, branch, what, value):
        value = unchanged(block, branch, what, value)
        return new(block, branch, value) if wanted(block, branch, what) else value

    return change


@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_by_hand_is_the_models_own(name):
    model = random_model(EVERY[name])
    batch = inputs(model.config)
    close(forward_by_hand(model, batch, unchanged), model(*batch))


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_does_what_the_pass_by_hand_does(name):
    model = random_model(EVERY[name])
    config, batch = model.config, inputs(model.config)
    plain = model(*batch)
    channels = torch.tensor([1, 5])

    def zeroed(block, branch, value):
        return value.index_fill(-1, channels, 0)

    cases = [
        (ScaleBranch(factor=-0.5, branches=("mlp",)),
         changing(lambda _, branch, what: (branch, what) == ("mlp", "gated"),
                  lambda b, r, value: value * -0.5)),
        *[(ZeroChannels(channels=(1, 5), where=where),
           changing(lambda b, r, what, where=where: what == where, zeroed))
          for where in ("stream", "in", "out")],
    ]  # fmt: skip
    if "rotation" in config.block_modulation:
        new = changing(lambda b, r, what: what == "rotation", lambda b, r, value: value * 0.25)
        cases.append((ScaleAngle(factor=0.25), new))
    for intervention, change in cases:
        found = out_of(model, batch, intervention)
        close(found, forward_by_hand(model, batch, change))
        assert not torch.allclose(found, plain, atol=1e-3), intervention.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("label", "timestep"), [(2, None), ("null", None), (None, 40), (1, 700), (None, None)]
)
def test_a_signal_takes_its_value_at_another_label_timestep_or_none(name, label, timestep):
    model = random_model(EVERY[name])
    config, (x, t, y) = model.config, inputs(model.config)
    other_y = y if label is None else torch.full_like(y, 3 if label == "null" else label)
    other_t = t if timestep is None else torch.full_like(t, timestep)
    assert config.null_label == 3
    for signal in config.block_modulation:
        point = "angle" if signal == "rotation" else signal

        def new(block, branch, value, signal=signal):
            if label is None and timestep is None:
                one = (signal == "gate" and config.gate_form == "gate") or (
                    signal == "scale" and config.modulation_form == "mp_sum"
                )
                return torch.ones_like(value) if one else torch.zeros_like(value)
            place = getattr(model.blocks[block], branch)
            return signals_by_hand(model, place, other_t, other_y)[signal]

        change = changing(lambda b, branch, what, s=signal: (branch, what) == ("attn", s), new)
        one = SetSignal(signal=point, label=label, timestep=timestep, branches=("attn",))
        close(out_of(model, (x, t, y), one), forward_by_hand(model, (x, t, y), change))


@pytest.mark.parametrize("name", ["A", "E", "head", "study scale+rotation"])
def test_a_skipped_branch_leaves_the_stream_as_it_was(name):
    model = random_model(EVERY[name])
    batch = inputs(model.config)

    def change(block, branch, what, value):
        return value[0] if (branch, what) == ("mlp", "skip") else unchanged(None, None, what, value)

    found = out_of(model, batch, SkipBranch(branches=("mlp",)))
    close(found, forward_by_hand(model, batch, change))


def test_a_model_whose_first_block_is_skipped_is_the_model_without_that_block():
    model = random_model(EVERY["E"])
    batch = inputs(model.config)
    found = out_of(model, batch, SkipBranch(blocks=(0,)))
    model.blocks = model.blocks[1:]
    close(found, model(*batch))


def test_angles_times_0_are_a_model_whose_rotation_has_no_gain():
    model = random_model(EVERY["study rotation"])
    batch = inputs(model.config)
    found = out_of(model, batch, ScaleAngle(factor=0))
    assert not torch.allclose(found, model(*batch), atol=1e-3)
    for block in model.blocks:
        block.attn.modulation.gain.zero_()
        block.mlp.modulation.gain.zero_()
    close(found, model(*batch))


def test_a_branch_times_0_is_a_model_whose_gate_weights_are_0():
    model = random_model(EVERY["A"])
    batch = inputs(model.config)
    found = out_of(model, batch, ScaleBranch(factor=0, blocks=(1,), branches=("mlp",)))
    linear, width = model.blocks[1].mlp.modulation.linear, model.config.width
    linear.weight[2 * width :] = 0
    close(found, model(*batch))


@pytest.mark.parametrize("where", ["stream", "in", "out"])
def test_zeroed_channels_are_zero_there_and_others_are_not(where):
    model = random_model(FULL)
    seen = {}

    class Look:
        def begin(self, timesteps, labels):
            pass

        def wants(self, name):
            return False

        def visit(self, name, tensor):
            seen[name] = tensor
            return tensor

    with intervening(model, [ZeroChannels(channels=(0, 7), where=where)]), visiting(Look()):
        model(*inputs(FULL))
    word = {"stream": "resid"}.get(where, where)
    found = seen[f"blocks.0.mlp.{word}"]
    assert (found[..., [0, 7]] == 0).all() and (found[..., [1, 6, 8]] != 0).any(-1).all()


def test_only_samples_at_the_timesteps_are_changed_in_a_mixed_batch():
    model = random_model(FULL)
    batch = inputs(FULL, 8)  # t = 999, 500, 500, 3, ...
    plain, everywhere = model(*batch), out_of(model, batch, ScaleAngle(factor=0))
    found = out_of(model, batch, ScaleAngle(factor=0, timesteps=(3, (600, 999))))
    inside = (batch[1] == 3) | (batch[1] >= 600)
    assert torch.equal(found[~inside], plain[~inside])
    assert torch.equal(found[inside], everywhere[inside])
    assert not torch.equal(found[inside], plain[inside])


def test_with_guidance_both_halves_are_changed_unless_one_is_chosen():
    model = random_model(EVERY["E"])
    x, t, y = inputs(model.config)
    y = y.clamp(max=2)  # no null label but guidance's own
    null = torch.full_like(y, model.config.null_label)
    changed = {
        half: (out_of(model, (x, t, labels), SkipBranch(blocks=(0,))), model(x, t, labels))
        for half, labels in (("label", y), ("null", null))
    }
    for half in ("both", "label", "null"):
        labelled = changed["label"][0 if half in ("both", "label") else 1]
        unlabelled = changed["null"][0 if half in ("both", "null") else 1]
        noise = unlabelled[:, :1] + 4.0 * (labelled - unlabelled)[:, :1]
        with intervening(model, [SkipBranch(blocks=(0,), half=half)]):
            close(guided(model, x, t, y, 4.0), torch.cat([noise, labelled[:, 1:]], dim=1))


def test_signals_at_the_null_label_leave_the_null_half_alone_and_take_the_label_from_the_other():
    model = random_model(FULL)
    x, t, y = inputs(FULL)
    everything = [SetSignal(signal=s, label="null") for s in ("scale", "shift", "gate", "angle")]
    null = torch.full_like(y, FULL.null_label)
    assert torch.equal(out_of(model, (x, t, null), *everything), model(x, t, null))
    # The final layer still knows the label, the blocks do not.
    model.final.modulation.gain.zero_()
    close(out_of(model, (x, t, y), *everything), model(x, t, null))


def test_interventions_act_in_the_order_of_the_list():
    model, batch = random_model(FULL), inputs(FULL)
    to_2, half = SetSignal(signal="angle", label=2), ScaleAngle(factor=0.5)
    assert torch.equal(out_of(model, batch, half, to_2), out_of(model, batch, to_2))
    both = out_of(model, batch, to_2, half)
    assert not torch.allclose(both, out_of(model, batch, to_2), atol=1e-3)

    def new(block, branch, value):
        place = getattr(model.blocks[block], branch)
        label = torch.full_like(batch[2], 2)
        return signals_by_hand(model, place, batch[1], label)["rotation"] / 2

    close(both, forward_by_hand(model, batch, changing(lambda b, r, w: w == "rotation", new)))


def test_nested_contexts_add_up_and_leave_nothing_behind():
    model, batch = random_model(FULL), inputs(FULL)
    plain = model(*batch)
    one, other = ScaleAngle(factor=0), SkipBranch(blocks=(0,), branches=("mlp",))
    with intervening(model, [one]), intervening(model, [other]):
        nested = model(*batch)
    assert torch.equal(nested, out_of(model, batch, one, other))
    with pytest.raises(KeyError), intervening(model, [one]):
        raise KeyError
    assert torch.equal(model(*batch), plain)


def test_two_people_who_intervene_on_one_model_at_once_never_see_each_other():
    model = random_model(FULL)
    kinds = [
        (ScaleAngle(factor=0),),
        (SetSignal(signal="gate", label=1), SkipBranch(branches=("attn",))),
        (),
    ]
    batches = [inputs(FULL, size) for size in (3, 5, 4)]
    alone = [out_of(model, batch, *kind) for kind, batch in zip(kinds, batches, strict=True)]
    start, wrong = threading.Barrier(3), []

    def person(number):
        start.wait()
        for _ in range(60):
            if not torch.equal(out_of(model, batches[number], *kinds[number]), alone[number]):
                wrong.append(number)

    in_threads([lambda number=number: person(number) for number in range(3)])
    assert not wrong


def test_a_context_copied_to_other_threads_intervenes_on_each_pass_of_theirs():
    model = random_model(FULL)
    kind = SetSignal(signal="gate", label=1, timesteps=range(400, 1000))
    batches = [inputs(FULL, size) for size in (3, 6)]
    alone, wrong = [out_of(model, batch, kind) for batch in batches], []

    def work(number):
        for _ in range(60):
            if not torch.equal(model(*batches[number]), alone[number]):
                wrong.append(number)

    with intervening(model, [kind]):
        copies = [contextvars.copy_context() for _ in batches]
        in_threads([lambda c=c, n=n: c.run(work, n) for n, c in enumerate(copies)])
    assert not wrong


def in_threads(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("text", "config", "sentence"),
    [
        ("angle*0.5", "A", "has no rotation: its blocks are modulated by scale, shift and gate"),
        ("angle=none", "study nothing", "modulated by nothing"),
        ("gate=null", "study rotation", "has no gate"),
        ("skip@3", "A", "has no block 3; its blocks are 1 to 2"),
        ("gate=y9", "A", "has no label 9; its labels are 0 to 2, and 3 for the null label"),
        ("gate=t1000", "A", "knows the timesteps 0 to 999 only"),
        ("skip:t1000-1200", "A", "knows the timesteps 0 to 999 only"),
        ("zero.in=3,16", "A", "has no channel 16; its channels are 0 to 15"),
    ],
)
def test_what_the_model_lacks_is_refused_in_one_sentence(text, config, sentence):
    model = random_model(EVERY[config])
    with pytest.raises(ImpossibleIntervention, match=sentence) as caught:
        out_of(model, inputs(model.config), *parse_interventions(text))
    assert text in str(caught.value)


def test_an_intervention_that_never_acted_is_told():
    model, batch = random_model(EVERY["A"]), inputs(EVERY["A"])
    with pytest.raises(ImpossibleIntervention, match="'skip:t600-700' never acted"):
        out_of(model, batch, SkipBranch(), SkipBranch(timesteps=range(600, 701)))
    with pytest.raises(ImpossibleIntervention, match="no forward pass"):
        with intervening(model, [SkipBranch()]):
            pass


spans = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)).map(sorted), max_size=3)
where = {
    "blocks": st.lists(st.integers(0, 30), max_size=5),
    "branches": st.lists(st.sampled_from(["attn", "mlp"]), max_size=2),
    "timesteps": spans,
    "half": st.sampled_from(["both", "label", "null"]),
}
factor = st.floats(-1000, 1000)
kinds = st.one_of(
    st.builds(ScaleAngle, factor=factor, **where),
    st.builds(ScaleBranch, factor=factor, **where),
    st.builds(SkipBranch, **where),
    st.builds(
        SetSignal, signal=st.sampled_from(["shift", "scale", "gate", "angle"]),
        label=st.none() | st.just("null") | st.integers(0, 2000),
        timestep=st.none() | st.integers(0, 999), **where,
    ),
    st.builds(
        ZeroChannels, channels=st.lists(st.integers(0, 70), min_size=1, max_size=6),
        where=st.sampled_from(["stream", "in", "out"]), **where,
    ),
)  # fmt: skip


@given(st.lists(kinds, max_size=4))
def test_the_text_of_interventions_reads_back_as_the_same(interventions):
    text = written(interventions)
    assert parse_interventions(text) == tuple(interventions)
    assert written(parse_interventions(text)) == text
    for one in interventions:
        assert type(one).model_validate(one.model_dump(mode="json")) == one
        assert one.name and "None" not in one.name


@pytest.mark.parametrize(
    "text",
    ["angel*0.5", "angle*", "angle*nan", "angle*1e999", "skip@0", "skip@5-3", "skip:t9-2", "gate=",
     "zero.stream=", "zero.stream=0-999999999", "skip@1-999999999", "skip:both", "skip@", "gate=y"],
)  # fmt: skip
def test_a_text_that_is_no_intervention_is_refused(text):
    with pytest.raises(InvalidConfig, match="is no intervention") as caught:
        parse_interventions(f"skip;{text}")
    assert "\n" not in str(caught.value)


def test_names_say_what_is_done_where_and_when():
    texts = "angle*0@3-6:mlp:t500-999;skip@3:mlp;gate=null.t40:label;zero.in=1,4-6@2:attn"
    assert [one.name for one in parse_interventions(texts)] == [
        "MLP of blocks 3 to 6 with rotation angles × 0 at t = 999 to 500",
        "MLP of block 3 skipped",
        "every branch with gate as for the null label and t = 40 (samples with a label only)",
        "attention of block 2 with channels 1 and 4 to 6 of its input at 0",
    ]


def test_settings_of_nonsense_are_refused():
    for values in ({"timesteps": "abc"}, {"timesteps": [[5]]}, {"blocks": [-1]}, {"half": "left"}):
        with pytest.raises(InvalidConfig):
            SkipBranch.checked(values)
