"""The images of notebook 01: files, downloads, the fall back to the embedded set, and pairs."""

import functools
import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.data import images
from helpers.runtime import UserError

SIZES = {"train": 30, "t10k": 12}


def idx(array):
    """Return an array as the bytes of an idx file, by the format's description."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Two tiny sets in the published format in a folder, {file: array}; no mirror is within reach."""
    rng, arrays = np.random.default_rng(0), {}
    for data in images.sets():
        resources = []
        for part, size in SIZES.items():
            contents = {"images-idx3": rng.integers(0, 256, (size, 28, 28)), "labels-idx1": np.arange(size) % 10}
            for kind, array in contents.items():
                path = tmp_path / "published" / data.__name__ / "raw" / f"{part}-{kind}-ubyte.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(idx(array), mtime=0))
                arrays[f"{data.__name__}/{part}-{kind}"] = array
                resources.append((path.name, hashlib.md5(path.read_bytes()).hexdigest()))
        monkeypatch.setattr(data, "resources", resources)
        monkeypatch.setattr(data, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(images, "HELD_OUT", 10)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("BSS_DATA_DIR", str(tmp_path / "published"))
    return arrays


@pytest.mark.parametrize("unpacked", [False, True])
def test_splits_of_the_real_sets(published, tmp_path, unpacked):
    for path in (tmp_path / "published").rglob("*.gz") if unpacked else ():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    train, validation, test = (images.load_images(split) for split in ("train", "validation", "test"))
    for name, field in (("MNIST", "digits"), ("FashionMNIST", "garments")):
        assert np.array_equal(getattr(train, field), published[f"{name}/train-images-idx3"][:20])
        assert np.array_equal(getattr(validation, field), published[f"{name}/train-images-idx3"][20:])
        assert np.array_equal(getattr(test, field), published[f"{name}/t10k-images-idx3"])
    assert validation.digit_labels.tolist() == list(range(10)) and validation.digit_labels.dtype == torch.int64
    assert test.digits.dtype == torch.uint8 and test.garment_labels.tolist() == [*range(10), 0, 1]
    assert not test.embedded and test.split == "test"
    assert images.image_banner(test) == "Data: MNIST + Fashion-MNIST (test: 12 digits, 12 garments)."


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"])
def test_a_damaged_file_is_an_error_with_the_remedy(published, tmp_path, name):
    path = tmp_path / "published/MNIST/raw" / name
    path.write_bytes(b"\0\0\x08\x03 half of")
    for other in path.parent.glob("*.gz") if path.suffix != ".gz" else ():
        other.with_suffix("").touch()
    with pytest.raises(UserError, match=r"published cannot be had .*python -m helpers fetch --data-dir") as caught:
        images.load_images("train")
    assert "\n" not in str(caught.value)


def test_without_files_and_network_the_embedded_set_takes_their_place(published, tmp_path, monkeypatch):
    monkeypatch.setenv("BSS_DATA_DIR", str(tmp_path / "nowhere"))
    images.online.cache_clear()
    with pytest.warns(UserWarning, match="embedded images take their place"):
        found = images.load_images("test")
    assert found.embedded and found.name == "embedded digits + drawn garments"
    assert images.image_banner(found).startswith("**Embedded data") and "not comparable" in images.image_banner(found)
    with pytest.raises(UserError, match="cannot be had .*fetch --data-dir") as caught:
        images.fetch_images(tmp_path / "nowhere")
    assert "\n" not in str(caught.value) and [path for path in tmp_path.glob("nowhere/**/*") if path.is_file()] == []
    with pytest.raises(UserError, match="unknown split 'dev': take one of train"):
        images.load_images("dev")


def test_missing_files_are_downloaded_from_the_mirror(published, tmp_path, monkeypatch):
    class Mirror(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Mirror, directory=tmp_path / "published")
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for data in images.sets():
        monkeypatch.setattr(data, "mirrors", [f"http://127.0.0.1:{server.server_port}/{data.__name__}/raw/"])
    monkeypatch.setenv("BSS_DATA_DIR", str(tmp_path / "new"))
    images.online.cache_clear()
    fetched = images.load_images("train")
    server.shutdown()
    thread.join()
    server.server_close()
    assert np.array_equal(fetched.digits, published["MNIST/train-images-idx3"][:20])
    assert len(images.load_images("test").garments) == 12  # now there, without a network


def test_the_real_files(monkeypatch):
    folder = Path(os.environ.get("BSS_DATA_DIR") or "nowhere").expanduser()
    if not images.on_disk(folder):
        pytest.skip("BSS_DATA_DIR holds no MNIST and Fashion-MNIST")
    parts = {split: images.load_images(split) for split in images.FORMS}
    assert [len(part.digits) for part in parts.values()] == [55_000, 5_000, 10_000]
    assert [len(part.garments) for part in parts.values()] == [55_000, 5_000, 10_000]
    assert parts["test"].digit_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert parts["test"].garment_labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert parts["train"].digits.float().mean() / 255 == pytest.approx(0.1307, abs=0.001)


# ---- pairs -------------------------------------------------------------------------------------------------------


def small_set(digits, garments):
    """Return an ImageSet whose image number i is grey i."""
    stacks = [torch.arange(size, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28) for size in (digits, garments)]
    return images.ImageSet(stacks[0], torch.zeros(digits), stacks[1], torch.zeros(garments), "toy", "test", True)


def test_the_mixture_is_the_exact_mean():
    toy, index = small_set(60, 50), torch.arange(50)
    mixture, digit, garment = images.gather_pairs(toy, index, index.flip(0))
    for batch in (mixture, digit, garment):
        assert batch.shape == (50, 1, 28, 28) and batch.dtype == torch.float32
    assert torch.equal(2 * mixture, digit + garment)
    assert torch.equal((garment[0, 0] * 255).round().byte(), toy.garments[49])


@pytest.mark.parametrize(
    ("digits", "garments", "count"), [(60, 60, 60), (12, 8, 96), (7, 5, 35), (12, 8, 50), (9, 4, 1)]
)
def test_fixed_pairs_use_all_images_evenly_and_never_twice_together(digits, garments, count):
    first, second = images.fixed_pairs(small_set(digits, garments), count, seed=3)
    assert len(first) == len(second) == count
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == count
    for index, size in ((first, digits), (second, garments)):
        uses = torch.bincount(index, minlength=size)
        assert len(uses) == size and uses.max() - uses.min() <= 1


def test_fixed_pairs_follow_their_seed_and_are_no_more_than_there_are():
    pairs = [torch.stack(images.fixed_pairs(small_set(60, 50), 200, seed)) for seed in (1, 1, 2)]
    assert torch.equal(pairs[0], pairs[1]) and not torch.equal(pairs[0], pairs[2])
    for count in (0, 13):
        with pytest.raises(UserError, match=f"count={count} .*1 to 12"):
            images.fixed_pairs(small_set(4, 3), count)


def test_the_sampler_resumes_exactly_from_a_saved_generator_state():
    generator = torch.Generator().manual_seed(5)
    sampler = images.PairSampler(small_set(60, 50), 16, generator)
    list(sampler.batches(3))
    state = generator.get_state()
    ahead = list(sampler.batches(4))
    resumed = torch.Generator()
    resumed.set_state(state)
    again = list(images.PairSampler(small_set(60, 50), 16, resumed).batches(4))
    assert len(ahead) == len(again) == 4
    for batch, other in zip(ahead, again, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(batch, other, strict=True))
    assert not torch.equal(ahead[0][0], ahead[1][0])


def test_the_sampler_pairs_every_digit_with_every_garment():
    sampler = images.PairSampler(small_set(4, 3), 600, torch.Generator().manual_seed(0))
    mixture, digit, garment = next(sampler.batches(1))
    assert mixture.shape == (600, 1, 28, 28) and torch.equal(2 * mixture, digit + garment)
    pairs = (255 * torch.stack([digit[:, 0, 0, 0], garment[:, 0, 0, 0]])).round().long()
    uses = torch.bincount(3 * pairs[0] + pairs[1], minlength=12)
    assert len(uses) == 12 and uses.min() > 20 and uses.max() < 90  # 50 each, were it exact
