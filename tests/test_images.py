"""The image files: every kind of damage, downloads that fail, and the fall back to the embedded set."""

import errno
import gzip
import hashlib
import http.server
import os
import shutil
import threading
import warnings
from functools import partial
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


class Published:
    """Two tiny sets in the published format, in a folder, and what images.py knows about them."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.arrays = folder, {}
        rng = np.random.default_rng(0)
        checksums, sets = {}, {}
        for name in ("MNIST", "FashionMNIST"):
            resources = []
            for part, size in SIZES.items():
                contents = {"images-idx3": rng.integers(0, 256, (size, 28, 28)), "labels-idx1": np.arange(size) % 10}
                for kind, array in contents.items():
                    file = f"{name}/raw/{part}-{kind}-ubyte"
                    self.arrays[file] = array
                    packed = gzip.compress(idx(array), mtime=0)
                    checksums[file] = hashlib.md5(idx(array)).hexdigest()
                    resources.append((Path(file).name + ".gz", hashlib.md5(packed).hexdigest()))
                    path = folder / f"{file}.gz"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(packed)
            sets[name] = type(name, (), {"resources": resources, "mirrors": []})
        monkeypatch.setattr(images, "SETS", sets)
        monkeypatch.setattr(images, "CHECKSUMS", checksums)
        monkeypatch.setattr(images, "HELD_OUT", 10)

    def unpack(self):
        for path in self.folder.rglob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "online", lambda: False)
    return Published(tmp_path / "data", monkeypatch)


# ---- reading the real sets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("unpacked", [False, True])
def test_splits_of_the_real_sets(published, unpacked):
    if unpacked:
        published.unpack()
    train, validation, test = (images.load_images(split, published.folder) for split in images.SPLITS)
    for name, field in (("MNIST", "digits"), ("FashionMNIST", "garments")):
        whole = published.arrays[f"{name}/raw/train-images-idx3-ubyte"]
        assert np.array_equal(getattr(train, field), whole[:20])
        assert np.array_equal(getattr(validation, field), whole[20:])
        assert np.array_equal(getattr(test, field), published.arrays[f"{name}/raw/t10k-images-idx3-ubyte"])
    assert validation.digit_labels.tolist() == list(range(10)) and validation.digit_labels.dtype == torch.int64
    assert test.digits.dtype == torch.uint8 and test.garment_labels.tolist() == [*range(10), 0, 1]
    assert not test.embedded and test.name == "MNIST + Fashion-MNIST" and test.split == "test"
    assert images.banner(test) == "Data: MNIST + Fashion-MNIST (test: 12 digits, 12 garments)."


def test_a_good_packed_file_beside_a_bad_unpacked_one_is_enough(published):
    file = "MNIST/raw/t10k-images-idx3-ubyte"
    (published.folder / file).write_bytes(b"rubbish")
    assert np.array_equal(images.load_images("test", published.folder).digits, published.arrays[file])


@pytest.mark.parametrize("source", ["auto", "real"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_a_missing_file_is_named_with_the_remedy(published, unpacked, source):
    if unpacked:
        published.unpack()
    images.on_disk(published.folder / "FashionMNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.* missing.*python -m helpers fetch --data"):
        images.load_images("train", published.folder, source)


def truncate(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip, lambda _: b"", lambda content: content + b"more"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_a_damaged_file_is_named_with_the_remedy(published, unpacked, damage):
    if unpacked:
        published.unpack()
    path = images.on_disk(published.folder / "MNIST/raw/train-images-idx3-ubyte")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"MNIST/raw/train-images-idx3-ubyte.*python -m helpers fetch --data"):
        images.load_images("train", published.folder)


def test_other_data_under_a_right_name_is_a_wrong_checksum(published):
    path = published.folder / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((12, 28, 28)))))
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte.gz is damaged.*checksum"):
        images.load_images("test", published.folder)


def test_real_images_that_are_nowhere(published, tmp_path):
    with pytest.raises(UserError, match="missing.*fetch"):
        images.load_images("test", tmp_path / "nowhere", source="real")


@pytest.mark.parametrize("wrong", [{"split": "dev"}, {"split": "test", "source": "mnist"}])
def test_unknown_names(wrong):
    with pytest.raises(UserError, match="unknown .* take "):
        images.load_images(**wrong)


def test_the_packages_checksums_are_those_of_the_real_files():
    folder = Path(os.environ.get("BSS_DATA_DIR") or "nowhere").expanduser()
    if images.on_disk(folder / "MNIST/raw/t10k-images-idx3-ubyte") is None:
        pytest.skip("BSS_DATA_DIR holds no MNIST")
    counts = {split: images.load_images(split, folder, "real", download=False) for split in images.SPLITS}
    assert [len(part.digits) for part in counts.values()] == [55_000, 5_000, 10_000]
    assert [len(part.garments) for part in counts.values()] == [55_000, 5_000, 10_000]
    assert counts["test"].digit_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert counts["test"].garment_labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert counts["train"].digits.float().mean() / 255 == pytest.approx(0.1307, abs=0.001)


def test_checksums_cover_the_files_that_torchvision_knows():
    known = {f"{name}/raw/{packed}" for name, data in images.SETS.items() for packed, _ in data.resources}
    assert {f"{file}.gz" for file in images.CHECKSUMS} == known and len(known) == 8


# ---- downloads ---------------------------------------------------------------------------------------------------


class Mirror(http.server.SimpleHTTPRequestHandler):
    """A web server of a folder that can cut an answer short."""

    cut = ()  # files of which half is sent
    asked = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        if Path(self.path).name not in self.cut:
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(truncate(content))


@pytest.fixture
def mirror(published, monkeypatch):
    """Serve the published files; the sets' first mirror is dead, the second is this server."""
    monkeypatch.setenv("NO_PROXY", "*")
    handler = type("Handler", (Mirror,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=published.folder))
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    for name, data in images.SETS.items():
        data.mirrors = ["http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/{name}/raw/"]
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetch_brings_all_files_from_the_mirror_that_answers(published, mirror, tmp_path):
    there = images.fetch(tmp_path / "new")
    assert there == tmp_path / "new" and files_below(there) == files_below(published.folder)
    assert not list(there.rglob("download.part"))
    fetched = images.load_images("train", there, "real")
    assert np.array_equal(fetched.digits, images.load_images("train", published.folder).digits)


def test_fetch_keeps_what_is_sound_and_mends_the_rest(published, mirror, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(published.folder, folder)
    (folder / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(b"half of a fi")
    (folder / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    leftover = folder / "MNIST/raw/download.part"  # of a killed download
    leftover.mkdir()
    (leftover / "tmp123").write_bytes(b"half")
    images.fetch(folder)
    asked = sorted(Path(path).name for path in mirror.asked)
    assert asked == ["t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"]
    assert files_below(folder) == files_below(published.folder)
    assert len(images.load_images("train", folder).digits) == 20


def test_auto_downloads_where_there_is_a_network(published, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "online", lambda: True)
    assert not images.load_images("test", tmp_path / "new").embedded
    assert len(mirror.asked) == 8
    with pytest.warns(UserWarning, match="embedded"):
        assert images.load_images("test", tmp_path / "other", download=False).embedded


@pytest.mark.parametrize("half_there", [False, True])
def test_a_half_finished_download_leaves_nothing_behind(published, mirror, tmp_path, half_there):
    mirror.cut = ("t10k-images-idx3-ubyte.gz",)
    folder = tmp_path / "new"
    target = folder / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    if half_there:
        target.parent.mkdir(parents=True)
        target.write_bytes(b"an older half")
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte.gz could not be downloaded"):
        images.fetch(folder)
    complete = [f"MNIST/raw/train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    older = ["MNIST/raw/t10k-images-idx3-ubyte.gz"] if half_there else []
    assert files_below(folder) == older + complete
    assert not half_there or target.read_bytes() == b"an older half"
    mirror.cut = ()
    images.fetch(folder)
    assert files_below(folder) == files_below(published.folder)


def test_a_mirror_with_other_content_is_refused(published, mirror, tmp_path):
    (published.folder / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(b"<html>moved</html>")
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz could not be downloaded.*wrong checksum"):
        images.fetch(tmp_path / "new")
    assert files_below(tmp_path / "new") == []


def test_no_network(published, tmp_path, monkeypatch):
    for data in images.SETS.values():
        data.mirrors = ["http://127.0.0.1:9/"]
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UserError, match="could not be downloaded.*ConnectionError.*try again with a network"):
        images.fetch(tmp_path / "new")
    assert files_below(tmp_path / "new") == []


def failing_downloader(error):
    """Return a stand-in for pooch.HTTPDownloader that writes a little and then fails with an OSError."""

    def start(**_):
        def write(_url, output, _pooch):
            Path(output).write_bytes(b"a little")
            raise error

        return write

    return start


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space left for .*train-images.*free"), (errno.EACCES, "cannot be written")]
)
def test_a_full_or_forbidden_disk(published, mirror, tmp_path, monkeypatch, code, words):
    monkeypatch.setattr(images.pooch, "HTTPDownloader", failing_downloader(OSError(code, os.strerror(code))))
    with pytest.raises(UserError, match=words):
        images.fetch(tmp_path / "new")
    assert files_below(tmp_path / "new") == []


def test_a_file_where_the_data_folder_should_be(published, tmp_path):
    (tmp_path / "new").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written.*--data"):
        images.fetch(tmp_path / "new")


def test_network_is_asked_once_and_any_mirror_will_do(monkeypatch):
    calls = []
    images.online.cache_clear()

    class Answer:
        ok = True

    def head(url, timeout, **_):
        calls.append(url)
        assert timeout <= 5
        if "dead" in url:
            raise images.requests.ConnectionError
        return Answer()

    first = type("First", (), {"resources": [("a.gz", "")], "mirrors": ["http://dead/", "http://alive/"]})
    second = type("Second", (), {"resources": [("b.gz", "")], "mirrors": ["http://alive/"]})
    monkeypatch.setattr(images.requests, "head", head)
    monkeypatch.setattr(images, "SETS", {"first": first, "second": second})
    try:
        assert images.online() and images.online()
        assert calls == ["http://dead/a.gz", "http://alive/a.gz", "http://alive/b.gz"]
        images.online.cache_clear()
        second.mirrors = ["http://dead/"]
        assert not images.online()
    finally:
        images.online.cache_clear()


# ---- the embedded set --------------------------------------------------------------------------------------------


def test_auto_without_files_and_network_falls_back_and_says_so(published, tmp_path):
    with pytest.warns(UserWarning, match="embedded images take their place"):
        found = images.load_images("test", tmp_path / "nowhere")
    assert found.embedded and found.name == "embedded digits + drawn garments"
    assert images.banner(found).startswith("**Embedded data") and "not comparable" in images.banner(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # asked for, it comes without a warning
        assert images.load_images("test", source="embedded").embedded
