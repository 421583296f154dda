"""Programs of others run unchanged after `accelerate`; see benchmarks/clients for what they do.

An optional group: each is skipped where the packages it needs are not installed.
"""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from tolerances import assert_matches
from torch import nn
from torch.profiler import ProfilerActivity, profile

import fastrnn
from benchmarks.clients import CLIENTS, Missing, Program

# What the programs themselves do that is deprecated is not ours to mend.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings("error:.*fastrnn")]


def make(name: str) -> Program:
    try:
        return CLIENTS[name].make()
    except Missing as missing:
        pytest.skip(str(missing))


def runs_of_kernels(run) -> int:
    """How many calls of our ops happen inside `run`."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    return sum(event.count for event in record.key_averages() if event.key.startswith("fastrnn::"))


def recurrent(model: nn.Module) -> dict[str, nn.Module]:
    kinds = (nn.RNNBase, nn.RNNCellBase)
    return {name: each for name, each in model.named_modules() if isinstance(each, kinds)}


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", CLIENTS)
def test_outputs_agree_after_accelerate_and_are_the_same_after_restore(name, compile):
    program = make(name)
    modules = recurrent(program.model)
    types = {each: type(module) for each, module in modules.items()}
    parameters = list(map(id, program.model.parameters()))
    before = program.run()

    assert fastrnn.accelerate(program.model, compile=compile) is program.model
    assert_matches(program.run(), before)
    assert recurrent(program.model) == modules
    if not compile:
        assert {each: type(module) for each, module in modules.items()} == types
    assert list(map(id, program.model.parameters())) == parameters

    fastrnn.restore(program.model)
    assert {each: type(module) for each, module in modules.items()} == types
    after = program.run()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", CLIENTS)
def test_kernels_run_after_accelerate(name):
    program = make(name)
    fastrnn.accelerate(program.model)
    assert runs_of_kernels(program.run) > 0


def test_every_module_of_tacotron2_takes_the_kernels():
    program = make("Tacotron2")
    fastrnn.accelerate(program.model)
    frames = program.run()["mel"].shape[-1]
    assert runs_of_kernels(program.run) == 2 * frames + 1  # two cells a frame, and the encoder


def test_tacotron2_is_scripted_after_accelerate_and_its_file_needs_no_fastrnn(tmp_path):
    program = make("Tacotron2")
    from benchmarks.clients.tacotron2 import infer

    before = program.run()
    scripted = torch.jit.script(fastrnn.accelerate(program.model))
    torch.jit.save(scripted, tmp_path / "tacotron2.pt")
    loaded = torch.jit.load(tmp_path / "tacotron2.pt")
    operators = torch.jit.export_opnames(loaded)
    assert "aten::lstm_cell" in operators
    assert not any("fastrnn" in name for name in operators)
    for model in (scripted, loaded):
        assert runs_of_kernels(lambda model=model: infer(model)) == 0
        assert_matches(infer(model), before)
    assert runs_of_kernels(program.run) > 0, "the model itself lost the kernels"


@pytest.mark.parametrize("causal", [True, False])
def test_denoiser_enhances_whole_files(causal):
    make("denoiser")
    from denoiser.demucs import Demucs

    model = Demucs(hidden=16, causal=causal).eval()
    sound = torch.randn(2, 1, 4000)
    inside = []  # random weights let little of it through to the end
    model.lstm.register_forward_hook(lambda module, args, output: inside.append(output[0]))
    with torch.no_grad():
        before = model(sound)
        assert_matches(fastrnn.accelerate(model)(sound), before)
    assert_matches(inside[1], inside[0])


def test_resemblyzer_is_copied_and_pickled_after_accelerate():
    program = make("Resemblyzer")
    mels = torch.randn(3, 20, 40)
    with torch.no_grad():
        expected = fastrnn.accelerate(program.model)(mels)
        for copy in (deepcopy(program.model), pickle.loads(pickle.dumps(program.model))):
            assert torch.equal(copy(mels), expected)


def test_resemblyzer_compiles_to_one_graph():
    program = make("Resemblyzer")
    mels = torch.randn(3, 20, 40)
    with torch.no_grad():
        before = program.model(mels)
        fastrnn.accelerate(program.model, compile=True)
        compiled = torch.compile(program.model, fullgraph=True, backend="aot_eager")
        assert_matches(compiled(mels), before)


def test_a_learner_that_was_loaded_is_accelerated_anew(tmp_path):
    make("RecurrentPPO")
    from sb3_contrib import RecurrentPPO

    learner = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=16, seed=0, device="cpu")
    fastrnn.accelerate(learner.policy)
    learner.save(tmp_path / "learner")
    loaded = RecurrentPPO.load(tmp_path / "learner", env=learner.get_env(), device="cpu")
    observation = learner.get_env().reset()

    def predict(learner):
        actions = learner.predict(observation, deterministic=True)[1]
        return {"h": torch.from_numpy(actions[0]), "c": torch.from_numpy(actions[1])}

    assert runs_of_kernels(lambda: predict(loaded)) == 0
    fastrnn.accelerate(loaded.policy)
    assert runs_of_kernels(lambda: predict(loaded)) > 0
    assert_matches(predict(loaded), predict(learner))


@pytest.mark.parametrize("lengths", [[5, 0, 3, 0], [0, 0, 0, 0], [5, 5, 5, 5]])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_rows_of_length_zero_in_subclasses_of_forecasting(kind, lengths):
    program = make("pytorch-forecasting")
    module = program.model[f"encoder_{kind}"]
    input = torch.randn(4, 5, module.input_size, requires_grad=True)
    first = torch.randn(2, 4, module.hidden_size)
    state = (first, first.clone()) if kind == "LSTM" else first

    def results():
        output, last = module(input, state, torch.tensor(lengths), enforce_sorted=False)
        last = last if kind == "LSTM" else (last,)
        sums = [output.sum(), *(each.square().sum() for each in last)]
        wanted = [input, *module.parameters()]
        grads = ()
        if any(lengths):
            grads = torch.autograd.grad(sum(sums), wanted)
        return output.detach(), [each.detach() for each in last], grads

    before = results()
    fastrnn.accelerate(program.model)
    assert_matches(results(), before)
