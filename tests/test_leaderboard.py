"""What separating costs: multiply-adds counted by hand, time, memory, and who is on the list."""

import pytest
import torch
from audio_models import Identity, noise, register
from torch import nn

from helpers.checkpoints import save_checkpoint
from helpers.models import BandSplitModel, ImageUNet, MaskUNet
from helpers.separation import catalogue
from helpers.separation import cost as leaderboard
from helpers.separation.baselines import BASELINES

SMALL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 128}


class Layers(Identity):
    """An audio model that runs some layers on the way and gives its input."""

    def __init__(self, layer, shape):
        super().__init__(sample_rate=1000)
        self.layer, self.shape = layer, shape

    def forward(self, batch):
        self.layer(torch.zeros(self.shape, device=batch.device))
        return super().forward(batch)


# ---- parameters and multiply-adds --------------------------------------------------------------------------------


def test_multiply_adds_of_a_layer_are_those_counted_by_hand():
    layers = [
        (nn.Conv1d(4, 4, 7, padding=3, groups=4), (1, 4, 10), 10 * 4 * 7),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), (1, 2, 8, 6), 4 * 3 * 3 * 2 * 9),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), (1, 4, 5, 6), 5 * 6 * 4 * 3 * 4),
        (nn.Linear(7, 2), (3, 5, 7), 3 * 5 * 7 * 2),
        (nn.LSTM(3, 4, bidirectional=True), (5, 2, 3), 2 * 5 * 2 * 4 * 4 * (3 + 4)),
        (nn.LSTM(3, 4, num_layers=2), (5, 2, 3), 5 * 2 * (4 * 4 * (3 + 4) + 4 * 4 * (4 + 4))),
    ]
    for layer, shape, expected in layers:
        assert leaderboard.multiply_adds(Layers(layer, shape)) == expected


def test_counting_leaves_a_network_as_it_was():
    model = MaskUNet(width=2, depth=3, **SMALL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = leaderboard.multiply_adds(model)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert leaderboard.multiply_adds(model) == first


def test_a_recurrent_network_spends_twice_as_much_on_twice_the_time():
    model = BandSplitModel(features=8, blocks=1, across_bands="recurrent", **SMALL)
    short, long = (leaderboard.multiply_adds(model, seconds) for seconds in (1.0, 2.0))
    assert long == pytest.approx(2 * short, rel=0.03)  # one frame more


def test_a_network_is_described_in_millions():
    model = MaskUNet(width=2, depth=3, **SMALL)
    found = leaderboard.described(model, {"training_minutes": 3.5, "device": "a GPU"}, times=5)
    assert found["M parameters"] == leaderboard.parameters(model) / 1e6
    assert found["M multiply-adds"] == pytest.approx(5 * leaderboard.multiply_adds(model, 2.0) / 2e6)
    assert (found["training (min)"], found["trained on"]) == (3.5, "a GPU")
    assert set(leaderboard.described(model, {})) == {"M parameters", "M multiply-adds"}


# ---- time and memory ---------------------------------------------------------------------------------------------


def test_a_step_takes_as_long_as_the_fastest_one_after_the_first(monkeypatch):
    clock, pauses = [0.0], iter((1.0, 6.0, 3.0, 5.0))
    monkeypatch.setattr(leaderboard.time, "perf_counter", lambda: clock[0])

    def loss(model, batch, progress):
        clock[0] += next(pauses)
        return {"loss": model(batch).square().mean()}

    assert leaderboard.step_seconds(Identity(), loss, noise(2, 100)[None], torch.device("cpu")) == 3.0
    assert next(pauses, None) is None  # as many steps as it says


def test_a_baseline_and_an_oracle_are_timed():
    for name in ("mixture", "irm"):
        found = leaderboard.timed(BASELINES[name].make, 2.0, 8000)
        assert 0 < found["seconds a minute"] < 60 and found["peak memory (MiB)"] > 50


def test_the_fastest_that_counts_is_the_second_call(monkeypatch):
    clock, pauses = [0.0], iter((9.0, 0.5))

    def separate(waveform, sample_rate):
        clock[0] += next(pauses)

    monkeypatch.setattr(leaderboard.time, "perf_counter", lambda: clock[0])
    assert leaderboard.timed(lambda sources: separate, 2.0, 8000)["seconds a minute"] == pytest.approx(15)


def test_methods_are_timed_by_name():
    for name in ("mixture", "irm"):
        assert leaderboard._timed_by_name(name, 1.0, 8000)["seconds a minute"] > 0


# ---- who is on the list ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a voice model, one of other sources, one of images, and a damaged file."""
    register(monkeypatch)
    save_checkpoint(tmp_path / "singer.safetensors", Identity())
    save_checkpoint(tmp_path / "drummer.safetensors", Identity(sources=("drums", "rest")))
    save_checkpoint(tmp_path / "images.safetensors", ImageUNet(channels=(2, 2, 2)))
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    monkeypatch.setattr(catalogue, "FOLDERS", (tmp_path,))
    return tmp_path


def test_models_that_know_a_voice_are_listed(folder):
    assert leaderboard.voice_models() == {"singer": folder / "singer.safetensors"}


def test_separators_are_all_that_evaluate_can_take(folder):
    methods, oracles = leaderboard.separators("cpu")
    assert set(methods) | set(oracles) | {"ica"} == {*BASELINES, "singer"}
    assert set(oracles) == {name for name, entry in BASELINES.items() if entry.truth}
    estimates = methods["singer"](noise(1, 9000), 8000)
    assert list(estimates) == ["vocals", "accompaniment"]
    methods, oracles = leaderboard.separators("cpu", without=("singer", "mixture", "ibm"))
    assert not {"singer", "mixture", "ibm"} & {*methods, *oracles}
