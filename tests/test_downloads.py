"""Downloads over lines that break, from servers of every manner; and archives that mean harm."""

import errno
import hashlib
import http.server
import io
import os
import shutil
import stat
import threading
import zipfile
from functools import partial

import pytest

from helpers.data import download as downloads
from helpers.data.download import Archive
from helpers.runtime import UserError

FILES = {"songs/one.wav": os.urandom(40_000), "songs/deep/two.wav": b"two" * 1000, "README.txt": b"read me"}


def zip_bytes(files=FILES):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CONTENT = zip_bytes()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` in the manner that the class's settings say, and notes every request."""

    content = CONTENT
    ranges = True  # understands the header Range
    breaks = []  # after how many bytes to hang up, a number for each request; None: not at all
    status = None  # answer with this one
    says_length = True
    asked = []

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.send_response(self.status or 200)
        self.end_headers()

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.status:
            return self.send_error(self.status)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.content) > 0 and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.end_headers()
            return None
        rest = self.content[start:]
        self.send_response(206 if wanted and self.ranges else 200)
        if wanted and self.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.says_length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        stop = self.breaks.pop(0) if self.breaks else None
        self.wfile.write(rest[:stop])
        return None


@pytest.fixture
def server(monkeypatch):
    """Start a Server; give its class, whose `url` is where it answers."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(downloads, "PIECE", 500)
    handler = type("Handler", (Server,), {"asked": [], "breaks": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(running.serve_forever, poll_interval=0.02))
    thread.start()
    handler.url = f"http://127.0.0.1:{running.server_port}/songs.zip"
    yield handler
    running.shutdown()
    thread.join()
    running.server_close()


def archive_at(*urls, **facts):
    facts = {"size": len(CONTENT), "checksum": "md5:" + hashlib.md5(CONTENT).hexdigest()} | facts
    return Archive("songs.zip", urls, "40 kB", **facts)


def fetch(archive, folder):
    return downloads.download(archive, folder, pause=0)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---- downloading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [{}, {"checksum": "sha256:" + hashlib.sha256(CONTENT).hexdigest()}, {"size": None}, {"checksum": None},
     {"size": None, "checksum": None}],
)  # fmt: skip
def test_a_download_arrives_whole(server, tmp_path, facts, capsys):
    path = fetch(archive_at(server.url, **facts), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "songs.zip" and path.read_bytes() == CONTENT
    assert names(path.parent) == ["songs.zip"] and server.asked == [None]
    assert "songs.zip: 100 %" in capsys.readouterr().out
    assert fetch(archive_at(server.url, **facts), path.parent) == path and len(server.asked) == 1  # nothing to do


def test_a_line_that_breaks_half_way_is_taken_up_again(server, tmp_path):
    half = len(CONTENT) // 1000 * 500
    server.breaks = [half, 1000, 0]
    path = fetch(archive_at(server.url), tmp_path)
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["songs.zip"]
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + 1000}-", f"bytes={half + 1000}-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path, monkeypatch):
    server.breaks = [30_000] + [0] * downloads.ATTEMPTS
    with pytest.raises(UserError, match=r"songs.zip could not be downloaded .*goes on from where it stopped"):
        fetch(archive_at(server.url), tmp_path)
    assert names(tmp_path) == ["songs.zip.part"] and (tmp_path / "songs.zip.part").stat().st_size == 30_000
    server.breaks, server.asked[:] = [], []
    assert fetch(archive_at(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=30000-"] and names(tmp_path) == ["songs.zip"]


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.ranges = False
    server.breaks = [20_000]
    assert fetch(archive_at(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=20000-"]


def test_a_server_that_does_not_say_how_long(server, tmp_path):
    server.says_length = False
    server.breaks = [20_000]
    assert fetch(archive_at(server.url), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_complete_is_not_asked_for_again(server, tmp_path):
    (tmp_path / "songs.zip.part").write_bytes(CONTENT)
    assert fetch(archive_at(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("length", [10_000, 50_000])
def test_a_part_of_another_file_is_noticed_and_begun_again(server, tmp_path, length):
    (tmp_path / "songs.zip.part").write_bytes(b"x" * length)
    assert fetch(archive_at(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] is None and names(tmp_path) == ["songs.zip"]


def test_other_content_is_refused_and_removed(server, tmp_path):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match="songs.zip from http.* is not the file it should be.*removed: try again"):
        fetch(archive_at(server.url), tmp_path)
    assert names(tmp_path) == [] and server.asked == [None]
    server.content = b"<html>This data set has moved</html>"
    with pytest.raises(UserError, match="is not the file it should be"):
        fetch(archive_at(server.url, size=None, checksum=None), tmp_path)
    assert names(tmp_path) == []


def test_an_older_file_of_other_content_stays_until_the_new_one_is_right(server, tmp_path):
    (tmp_path / "songs.zip").write_bytes(b"older")
    server.status = 503
    with pytest.raises(UserError, match="503"):
        fetch(archive_at(server.url), tmp_path)
    assert (tmp_path / "songs.zip").read_bytes() == b"older"
    server.status = None
    assert fetch(archive_at(server.url), tmp_path).read_bytes() == CONTENT


def test_the_second_address_is_tried_where_the_first_fails(server, tmp_path):
    assert fetch(archive_at("http://127.0.0.1:9/songs.zip", server.url), tmp_path).read_bytes() == CONTENT


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UserError, match="could not be downloaded .*ConnectionError.*try again with a network"):
        fetch(archive_at("http://127.0.0.1:9/songs.zip"), tmp_path)
    assert names(tmp_path) == []


def test_pauses_grow_and_a_piece_that_arrives_starts_them_over(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(downloads.time, "sleep", pauses.append)
    server.breaks = [0, 0, 5000, 0]
    downloads.download(archive_at(server.url), tmp_path, pause=1)
    assert pauses == [2, 4, 1, 2]


def test_a_disk_too_small_is_said_before_anything_is_written(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="no space left for .*songs.zip .40 kB.: free some"):
        fetch(archive_at(server.url), tmp_path)
    assert names(tmp_path) == []


def test_a_file_where_the_folder_should_be(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written.*--data"):
        fetch(archive_at(server.url), tmp_path / "file")


def test_online_asks_once_and_any_address_will_do(server):
    downloads.online.cache_clear()
    try:
        assert downloads.online(("http://127.0.0.1:9/", server.url))
        server.status = 404
        assert downloads.online(("http://127.0.0.1:9/", server.url))  # remembered
        downloads.online.cache_clear()
        assert not downloads.online(("http://127.0.0.1:9/", server.url))
    finally:
        downloads.online.cache_clear()


# ---- unpacking ---------------------------------------------------------------------------------------------------


def packed(tmp_path, files=FILES):
    path = tmp_path / "songs.zip"
    path.write_bytes(zip_bytes(files))
    return path


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unpacking(tmp_path):
    downloads.unpack(packed(tmp_path), tmp_path / "Songs")
    assert tree(tmp_path / "Songs") == FILES and names(tmp_path) == ["Songs", "songs.zip"]


def test_a_folder_of_the_same_name_inside_becomes_the_target(tmp_path):
    wrapped = {f"Songs/{name}": content for name, content in FILES.items()}
    downloads.unpack(packed(tmp_path, wrapped | {"__MACOSX/Songs/._x": b"junk"}), tmp_path / "Songs")
    assert tree(tmp_path / "Songs") == FILES and names(tmp_path) == ["Songs", "songs.zip"]


def hostile(name, content=b"gotcha", mode=stat.S_IFREG | 0o644):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry, content


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (hostile("/etc/evil.wav"), "absolute path"),
        (hostile("C:\\evil.wav"), "absolute path"),
        (hostile("C:evil.wav"), "absolute path"),
        (hostile("\\\\host\\share\\evil.wav"), "absolute path"),
        (hostile("../evil.wav"), "leads out"),
        (hostile("a/b/../../../evil.wav"), "leads out"),
        (hostile("a\\..\\..\\evil.wav"), "leads out"),
        (hostile("a\\evil.wav"), "read differently"),
        (hostile("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "link or a device"),
        (hostile("pipe", b"", stat.S_IFIFO | 0o644), "link or a device"),
        (hostile("../evil/", b"", stat.S_IFDIR | 0o755), "leads out"),
    ],
)
def test_hostile_entries_are_refused_before_anything_is_written(tmp_path, entry, words):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    path = inner / "songs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.wav", b"good")
        archive.writestr(*entry)
    with pytest.raises(UserError, match=f"songs.zip is refused, .*{words}.*source you trust"):
        downloads.unpack(path, inner / "Songs")
    assert tree(tmp_path) == {"a/b/songs.zip": path.read_bytes()} and names(inner) == ["songs.zip"]


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"zeros.wav": bytes(80_000_000)}, 10**12),  # a bomb: a thousand times larger inside
        ({"one.wav": os.urandom(5000), "two.wav": os.urandom(6000)}, 10_000),
    ],
)
def test_absurd_sizes_are_refused(tmp_path, files, limit):
    with pytest.raises(UserError, match="is refused, it holds . files of together"):
        downloads.unpack(packed(tmp_path, files), tmp_path / "Songs", limit)
    assert names(tmp_path) == ["songs.zip"]


def test_too_many_files_and_names_twice_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "ENTRIES", 2)
    with pytest.raises(UserError, match="it holds 3 files"):
        downloads.unpack(packed(tmp_path), tmp_path / "Songs")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.wav", b"1")
        archive.writestr("a.wav", b"2")
    with pytest.raises(UserError, match="two files of one name"):
        downloads.unpack(tmp_path / "twice.zip", tmp_path / "Songs")
    assert names(tmp_path) == ["songs.zip", "twice.zip"]


def test_sizes_that_lie_are_found_out(tmp_path):
    path = packed(tmp_path, {"zeros.wav": bytes(200_000)})
    content = path.read_bytes()
    assert content.count((200_000).to_bytes(4, "little")) == 2
    path.write_bytes(content.replace((200_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged archive"):
        downloads.unpack(path, tmp_path / "Songs")
    assert names(tmp_path) == ["songs.zip"]


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_damaged_archives(tmp_path, damage):
    path = packed(tmp_path)
    content = bytearray(path.read_bytes())
    content[20_000] ^= 0xFF
    path.write_bytes({"cut": content[:20_000], "flip": bytes(content), "text": b"no archive"}[damage])
    with pytest.raises(UserError, match="songs.zip is a damaged archive.*download it again"):
        downloads.unpack(path, tmp_path / "Songs")
    assert names(tmp_path) == ["songs.zip"]


def test_a_disk_too_small_or_a_folder_in_the_way(tmp_path, monkeypatch):
    path = packed(tmp_path)
    (tmp_path / "Songs").mkdir()
    (tmp_path / "Songs" / "mine.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match="cannot be unpacked to .*Songs.*move away what is there"):
        downloads.unpack(path, tmp_path / "Songs")
    assert tree(tmp_path / "Songs") == {"mine.wav": b"mine"} and names(tmp_path) == ["Songs", "songs.zip"]

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(UserError, match="No space left.*free disk space"):
        downloads.unpack(path, tmp_path / "Other")
    assert names(tmp_path) == ["Songs", "songs.zip"]
