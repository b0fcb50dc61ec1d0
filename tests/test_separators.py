"""What every Separator promises: shape, rate and channels kept, sources that add up, silence, pauses, bad input."""

import pytest
import torch
from audio_models import Identity, noise
from toy_corpus import track_of

from helpers.runtime import UserError
from helpers.separation import BASELINES, EverySpeed, FixedEqualiser, ModelSeparator
from helpers.separation.postprocess import Postprocessed, high_pass

RATE = 8000
OTHERS = {  # {name: function of the true sources that returns a Separator}
    "network, each channel": lambda sources: ModelSeparator(Identity(RATE, tuple(sources)), "cpu"),
    "network, added up": lambda sources: ModelSeparator(Identity(RATE, tuple(sources)), "cpu", add_up=True),
    "every speed": lambda sources: EverySpeed(ModelSeparator(Identity(RATE, tuple(sources)), "cpu")),
    "fixed equaliser": lambda sources: FixedEqualiser([track_of("one", RATE, sources)]),
    "post-processed": lambda sources: Postprocessed(
        ModelSeparator(Identity(RATE, tuple(sources)), "cpu"), {"a": [lambda wave, rate: high_pass(wave, rate, 100)]}
    ),
}
MAKE = {name: entry.make for name, entry in BASELINES.items()} | OTHERS
ADDS_UP = [name for name in MAKE if name not in ("mixture", "post-processed", "every speed", "network, each channel")]
# pairwise: every rate, number of channels and length meets most of the others
SHAPES = [(8000, 1, 1), (44_100, 2, 3), (8000, 2, 100), (11_025, 1, 1000), (44_100, 1, 12_345), (8000, 2, 9_346)]


@pytest.mark.filterwarnings("ignore:FastICA did not converge")  # there is nothing to find in Gaussian noise
@pytest.mark.parametrize("name", MAKE)
def test_same_shape_the_sum_is_the_mixture_and_silence_stays_silent(name):
    for rate, channels, frames in SHAPES:
        if name == "ica" and (channels == 1 or frames < 10):  # these are no two independent mixtures
            continue
        sources = {"a": noise(channels, frames, seed=1), "b": noise(channels, frames, seed=2)}
        mixture = sources["a"] + sources["b"]
        kept = mixture.clone()
        estimates = MAKE[name](sources)(mixture, rate)
        assert list(estimates) == ["a", "b"] and torch.equal(mixture, kept)
        for wave in estimates.values():
            assert wave.shape == mixture.shape and wave.dtype == torch.float32 and wave.isfinite().all()
        if name in ADDS_UP:
            torch.testing.assert_close(estimates["a"] + estimates["b"], mixture, atol=2e-5, rtol=0)
    silence = torch.zeros(2, 3000)
    for wave in MAKE[name]({"a": silence, "b": silence})(silence, RATE).values():
        assert torch.equal(wave, silence)


@pytest.mark.parametrize("name", BASELINES)
def test_a_pause_within_the_music_makes_no_nan_and_calls_repeat(name):
    waves = noise(4, 16_000).unflatten(0, (2, 2))
    waves[..., 2000:14_000] = 0
    sources = {"a": waves[0], "b": waves[1]}
    first, again = (MAKE[name](sources)(waves.sum(0), RATE) for _ in range(2))
    assert all(torch.equal(first[key], again[key]) and first[key].isfinite().all() for key in sources)
    assert max(float(wave[:, 7_500:8_500].abs().max()) for wave in first.values()) < 1e-6


def test_what_is_no_waveform_is_refused():
    sources = {"a": noise(2, 1000, seed=1), "b": noise(2, 1000, seed=2)}
    bad = sources["a"].clone()
    bad[1, 7] = torch.inf
    for name in (name for name in MAKE if name != "every speed"):
        separate = MAKE[name](sources)
        with pytest.raises(UserError, match="NaN or infinity"):
            separate(bad, RATE)
        for wave in (bad[0], bad[:, :0]):
            with pytest.raises(ValueError, match="waveform is"):
                separate(wave, RATE)
