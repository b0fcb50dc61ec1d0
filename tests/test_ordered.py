"""Songs in order, chunk after chunk: every frame once, as in the whole song, and a memory that goes on."""

import numpy as np
import pytest
import torch
from toy_corpus import make

from helpers.data.batches import load_samples
from helpers.data.ordered import ordered_batches
from helpers.losses.masks import CarriedLoss, MaskLoss, begun_again
from helpers.models.mask_nets import LSTMNet
from helpers.stft import STFT
from helpers.training import fit

STFTS = (STFT(64, 16), STFT(64, 32), STFT(60, 25))
LENGTHS = (1000, 1500, 2100)


def toy(lengths=LENGTHS):
    return load_samples(make(lengths, ("vocals", "accompaniment"), channels=1))


def songs_of(samples):
    """Return [(sources, time)] of Samples, float32."""
    parts = zip(samples.starts.tolist(), samples.lengths.tolist(), samples.scales.tolist(), strict=True)
    return [samples.values[:, 0, start : start + length].float() * scale for start, length, scale in parts]


def plain(samples, stft, frames, batch_size, steps, **options):
    return list(ordered_batches(samples, stft, frames, batch_size, steps, **options))


def made(seed=0, **settings):
    torch.manual_seed(seed)
    return LSTMNet(width=10, code=8, hidden=6, sample_rate=800, n_fft=64, hop_length=16, **settings)


def chunk_frames(stft, waveforms):
    """(batch, sources, time) -> the chunk's own frames, by windows that are cut out one by one, in NumPy."""
    margin, hop, window = stft.margin, stft.hop_length, stft.window_like(torch.zeros(())).numpy()
    frames = 1 + waveforms.shape[-1] // hop - 2 * margin
    centres = [(margin + frame) * hop for frame in range(frames)]
    cut = [waveforms[..., c - stft.n_fft // 2 : c + stft.n_fft // 2].numpy() * window for c in centres]
    return np.stack([np.fft.rfft(one) for one in cut], -1)


# ---- batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stft", STFTS)
def test_the_chunks_frames_are_those_of_the_song(stft):
    samples, frames = toy(), 9
    found, song = {}, [-1, -1]
    for _, sources, fresh in plain(samples, stft, frames, 2, 40):
        spectra = stft(sources.squeeze(2))[..., stft.margin : -stft.margin]
        assert spectra.shape[-1] == frames
        assert np.allclose(spectra, chunk_frames(stft, sources.squeeze(2)), atol=1e-5)  # no window reaches beyond
        for stream in range(2):
            song[stream] += bool(fresh[stream])
            found.setdefault((stream, song[stream]), []).append(spectra[stream])
    # the stream of the shortest song is the first that is free for the third
    for key, waveform in zip(((0, 0), (1, 0), (0, 1)), songs_of(samples), strict=True):
        ours, whole = torch.cat(found[key], -1), stft(waveform)
        common = min(ours.shape[-1], whole.shape[-1])
        assert common >= whole.shape[-1] - 1  # the last frame's centre may be the song's very end
        assert ours[..., :common].allclose(whole[..., :common], atol=1e-5)


def test_chunks_are_made_on_the_device_and_where_songs_begin_is_known_on_the_cpu():
    for mixture, sources, fresh in plain(toy(), STFT(64, 16), 9, 2, 3, device="meta"):
        assert mixture.is_meta and sources.is_meta and fresh.device.type == "cpu"


def test_shapes_and_the_mixture_is_the_sum():
    samples, stft = toy(), STFT(64, 16)
    batches = plain(samples, stft, 10, 3, 20, generator=torch.Generator().manual_seed(0), gain_db=6, remix=0.5)
    assert len(batches) == 20 and batches[0][2].all()
    for mixture, sources, fresh in batches:
        assert mixture.shape == (3, 1, 9 * 16 + 4 * 16) and sources.shape == (3, 2, 1, 208)
        assert mixture.allclose(sources.sum(1), atol=1e-6) and mixture.dtype == torch.float32
        assert fresh.shape == (3,) and fresh.dtype == torch.bool


def test_every_song_is_heard_once_in_a_round_and_streams_begin_within():
    waves = [{"a": torch.full((1, 800), (number + 1) / 64), "b": torch.zeros(1, 800)} for number in range(6)]
    samples, stft = load_samples(make(waves=waves)), STFT(64, 16)
    batches = plain(samples, stft, 10, 2, 60, generator=torch.Generator().manual_seed(0))
    heard, beginnings = [], []
    for number, (mixture, _, fresh) in enumerate(batches):
        for stream in fresh.nonzero().flatten().tolist():
            heard.append(round(float(mixture[stream].max()) * 64))
            if number:
                beginnings.append(int((mixture[stream, 0] != 0).nonzero()[0]))
    assert set(beginnings) == {32}  # a song's first sample lies behind the margin
    assert all(sorted(heard[start : start + 6]) == [1, 2, 3, 4, 5, 6] for start in (0, 6, 12))
    assert heard[:6] != heard[6:12]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(60)]
    firsts = [plain(samples, stft, 10, 2, 6, generator=seed) for seed in seeds]
    lasted = {[bool(fresh[0]) for _, _, fresh in batches[1:]].index(True) + 1 for batches in firsts}
    assert lasted == {1, 2, 3, 4, 5}  # chunks of 160 samples until the first song, begun anywhere, is over


def test_gains_last_a_song_and_remixes_take_other_songs():
    waves = [
        {name: torch.full((1, 800), level) for name, level in (("a", 0.25 + n / 64), ("b", 0.5 + n / 64))}
        for n in range(4)
    ]
    samples, stft = load_samples(make(waves=waves)), STFT(64, 16)
    batches = plain(samples, stft, 10, 1, 200, generator=torch.Generator().manual_seed(0), gain_db=6)
    songs = []
    for _, sources, fresh in batches:
        songs.append([]) if fresh[0] else None
        songs[-1].append(sources[0, :, 0].amax(-1))
    loudest = torch.stack([torch.stack(song).amax(0) for song in songs])
    for song, level in zip(songs, loudest, strict=True):
        assert all(chunk.allclose(level) for chunk in song)
    ratio = 20 * torch.log10(loudest[:, 0] / loudest[:, 1])
    assert ratio.std() > 2  # the two sources have gains of their own
    for chance in (0.0, 1.0):
        batches = plain(samples, stft, 10, 4, 100, generator=torch.Generator().manual_seed(0), remix=chance)
        numbers = torch.cat([(sources[:, :, 0].amax(-1) - torch.tensor([0.25, 0.5])) * 64 for _, sources, _ in batches])
        apart = (numbers[:, 0].round() != numbers[:, 1].round()).float().mean()
        assert apart == 0 if chance == 0 else 0.6 < apart < 0.9  # three in four


def test_the_same_seed_gives_the_same_batches():
    samples, stft = toy(), STFT(64, 16)
    one, two, other = (
        plain(samples, stft, 10, 3, 8, generator=torch.Generator().manual_seed(seed), remix=0.5, gain_db=6)
        for seed in (0, 0, 1)
    )
    assert all(a.equal(b) for first, second in zip(one, two, strict=True) for a, b in zip(first, second, strict=True))
    assert not all(a[0].equal(b[0]) for a, b in zip(one, other, strict=True))


# ---- the state ---------------------------------------------------------------------------------------------------


def test_chunks_with_a_carried_state_are_one_long_pass():
    samples, model = toy(), made(level="none").eval()
    loss = CarriedLoss(MaskLoss("l2", relative=False))
    found = []
    with torch.no_grad():
        for batch in plain(samples, model.stft, 9, 1, 7):  # 9 frames of 16: the first song's 1000 samples in 7 chunks
            found.append(loss(model, batch, 1.0)["loss"])
        song = torch.nn.functional.pad(songs_of(samples)[0], (0, 7 * 9 * 16 - 1000 + 64))[:, None]  # (sources, 1, time)
        whole, truth = model.analyse(song.sum(0, keepdim=True)), model.stft(song.squeeze(1))
    norm = np.sqrt((model.stft.window_like(torch.zeros(())).numpy() ** 2).sum())
    error = np.abs(truth.numpy()) - (whole.magnitudes * whole.scale.unsqueeze(1))[0, :, 0].numpy()
    expected = (error / norm) ** 2
    chunks = [expected[..., start : start + 9].sum((0, 1)).mean() for start in range(0, 63, 9)]
    assert np.allclose(chunks, torch.stack(found), rtol=1e-4)
    fresh_only = loss(model, (*batch[:2], torch.ones(1, dtype=torch.bool)), 1.0)["loss"]
    assert abs(fresh_only - found[-1]) > 1e-6  # the last chunk without what came before


def test_a_new_song_starts_without_a_state():
    state = tuple(torch.rand(2, 3, 4) for _ in range(2))
    fresh = torch.tensor([False, True, False])
    for part, before in zip(begun_again(state, fresh), state, strict=True):
        assert not part[:, 1].any() and part[:, [0, 2]].equal(before[:, [0, 2]])
    assert not any(part.any() for part in begun_again(state, torch.ones(3, dtype=torch.bool)))
    model = made(level="none").eval()
    batches = plain(toy((900, 900)), model.stft, 20, 1, 6)
    assert [bool(fresh) for _, _, fresh in batches] == [True, False, False] * 2
    loss = CarriedLoss()
    carried = [loss(model, batch, 1.0)["loss"].item() for batch in batches]
    alone = [CarriedLoss()(model, batch, 1.0)["loss"].item() for batch in batches]  # each begins without a state
    assert [one == other for one, other in zip(carried, alone, strict=True)] == [True, False, False] * 2


def test_gradients_stop_at_the_chunks_border_and_validation_leaves_the_state_alone():
    samples, model = toy(), made().train()
    batches = plain(samples, model.stft, 10, 2, 3)
    loss = CarriedLoss(MaskLoss("kl"))
    loss(model, batches[0], 0.0)["loss"].backward()
    kept = loss.states[True]
    assert not any(part.requires_grad for part in kept) and kept[0].shape == (1, 2, 6) and kept[0].any()
    before = [part.clone() for part in kept]
    model.eval()
    with torch.no_grad():
        loss(model, batches[0], 1.0)
        loss(model, batches[1], 1.0)
        loss(model, batches[1][:2], 1.0)  # chunks of their own
    assert all(part.equal(old) for part, old in zip(loss.states[True], before, strict=True))
    model.train()
    after = loss(model, batches[1], 0.0)["loss"]
    after.backward()  # would fail if it went back into the first chunk, whose graph is gone
    expected = CarriedLoss(MaskLoss("kl"), {True: tuple(before)})(model, batches[1], 0.0)["loss"]
    assert after.item() == expected.item()
    assert repr(loss) == repr(CarriedLoss(MaskLoss("kl")))  # what fit's fingerprint sees does not grow with the state


def test_fit_resumes_to_the_same_weights(tmp_path):
    samples = toy()

    def batches(split, generator):
        training = split == "train"
        return ordered_batches(samples, made().stft, 12, 2, 4 if training else 3, generator if training else None)

    def run(epochs_first):
        model, path = made(), tmp_path / f"{epochs_first}.pt"
        settings = {"epochs": 3, "steps": 4, "seed": 1, "state_path": path}

        def stop(epoch, history):
            if epoch == epochs_first:
                raise KeyboardInterrupt

        try:
            fit(model, CarriedLoss(), batches, on_epoch=stop, **settings)
        except KeyboardInterrupt:
            model = made(seed=5)
            fit(model, CarriedLoss(), batches, **settings)
        return model.state_dict()

    one, two = run(99), run(2)
    assert all(value.equal(two[name]) for name, value in one.items())
