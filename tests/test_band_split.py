"""The band-split model: bands that cover the spectrum, layers that see what they should, masks that add up."""

import numpy as np
import pytest
import torch
from audio_models import noise

from helpers.models.band_split import SPEECH, BandSplitModel, Recurrent, band_sizes

MUSIC = ((1000, 100), (4000, 250), (8000, 500), (16_000, 1000), (20_000, 2000), (22_050, 2050))  # BSRNN's 41 bands
SMALL = {"features": 8, "blocks": 2, "n_fft": 128, "hop_length": 64, "sample_rate": 8000, "bands": ((4000, 1000),)}


def made(seed=0, **arguments):
    torch.manual_seed(seed)
    return BandSplitModel(**{**SMALL, **arguments}).eval()


@pytest.mark.parametrize("bins, rate, bands", [(513, 16_000, SPEECH), (1025, 44_100, MUSIC), (257, 8000, MUSIC)])
def test_bands_cover_all_bins_and_grow(bins, rate, bands):
    sizes = band_sizes(bins, rate, bands)
    assert sum(sizes) == bins and min(sizes) >= 1
    hertz = rate / 2 / (bins - 1)
    for start, width in zip(np.cumsum([0, *sizes[:-1]]) * hertz, sizes, strict=True):
        wanted = next(width for end, width in bands if start < end - hertz / 2)
        assert abs(width * hertz - wanted) <= 1.01 * hertz or start + width * hertz >= rate / 2  # but for the last
    assert len(band_sizes(513, 16_000, SPEECH)) == 20 and len(band_sizes(1025, 44_100, MUSIC)) == 41


def test_more_bands_than_bins_and_a_rest_above():
    assert band_sizes(9, 8000, ((4000, 100),)) == [1] * 8 + [1]  # a band without a bin is left out
    assert band_sizes(9, 8000, ((2000, 1000),)) == [2, 2, 5]


def test_four_sources_at_44_khz():
    arguments = {"bands": MUSIC, "n_fft": 2048, "hop_length": 512, "sample_rate": 44_100}
    model, mixture = made(**arguments, sources=("vocals", "drums", "bass", "other")), noise(1, 44_101).unsqueeze(0)
    with torch.no_grad():
        estimates = model(mixture)
    assert estimates.shape == (1, 4, 1, 44_101) and estimates.sum(1).allclose(mixture, atol=1e-5)


def test_a_layer_sees_its_axis_and_keeps_its_shape():
    torch.manual_seed(0)
    along, x = Recurrent(8).double(), torch.randn(3, 29, 8).double()
    changed = x.clone()
    changed[0, 14] = torch.randn(8)
    with torch.no_grad():
        difference = (along(changed) - along(x)).abs().amax(-1)
    assert not difference[1:].any()  # sequences are apart
    assert (difference[0] > 0).all()


def test_what_only_older_checkpoints_could_have_is_refused():
    for older in ({"across_time": "attention"}, {"channels": "joint"}, {"add_up": False}):
        with pytest.raises(ValueError, match="no such band-split model any more"):
            made(**older)
