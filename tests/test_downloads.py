"""Downloads from a small web server: whole, verified, or not at all."""

import hashlib
import http.server
import io
import shutil
import threading
import zipfile

import pytest

from helpers.data import corpora, download
from helpers.data.download import Archive, fetch_archive
from helpers.runtime import UserError

FILES = {"one.wav": b"one" * 10_000, "deep/two.wav": b"two"}


def zip_bytes(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """A web server whose attributes `content` and `status` are what it answers; `archive` describes that content."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)  # no progress bar

    class Handler(http.server.BaseHTTPRequestHandler):
        content, status, asked = zip_bytes(FILES), 200, 0

        def log_message(self, *_):
            pass

        def do_GET(self):
            type(self).asked += 1
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            self.wfile.write(self.content)

        def do_HEAD(self):
            self.send_response(self.status)
            self.end_headers()

        @classmethod
        def archive(cls, **changes):
            facts = {"url": cls.url, "megabytes": 1, "checksum": "md5:" + hashlib.md5(cls.content).hexdigest()}
            return Archive(**facts | changes)

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.url = f"http://127.0.0.1:{running.server_port}/Songs.zip"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Handler
    running.shutdown()
    thread.join()
    running.server_close()


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["", "Songs/"])
def test_a_download_arrives_unpacked_and_leaves_nothing_else(server, tmp_path, prefix):
    files = {prefix + name: content for name, content in FILES.items()}
    server.content = zip_bytes(files | {"__MACOSX/Songs/._one.wav": b"junk"})
    fetch_archive(server.archive(), tmp_path / "data/Songs")
    assert files_below(tmp_path / "data") == {f"Songs/{name}": content for name, content in FILES.items()}
    assert server.asked == 1


def test_an_archive_that_lies_there_already_is_used(server, tmp_path):
    (tmp_path / "Songs.zip").write_bytes(server.content)
    fetch_archive(server.archive(), tmp_path / "Songs")
    assert files_below(tmp_path / "Songs") == FILES and server.asked == 0


def test_no_entry_leaves_the_folder(server, tmp_path):
    server.content = zip_bytes({"../../evil.wav": b"1", "/evil.wav": b"2", "good.wav": b"3"})
    fetch_archive(server.archive(), tmp_path / "a/b/Songs")
    assert all(name.startswith("a/b/Songs/") for name in files_below(tmp_path))


def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(server, tmp_path, monkeypatch):
    def refused(words, archive):
        with pytest.raises(UserError, match=words) as caught:
            fetch_archive(archive, tmp_path / "Songs")
        assert "Songs.zip" in str(caught.value) and "\n" not in str(caught.value)
        assert f"get {archive.url} " in str(caught.value) and str(tmp_path / "Songs") in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    refused("checksum is wrong", server.archive(checksum="md5:" + "0" * 32))
    refused("neither https nor a known checksum", server.archive(checksum=None))
    refused("ConnectionError", server.archive(url="http://127.0.0.1:9/Songs.zip"))
    server.status = 503
    refused("HTTPError", server.archive())
    server.status = 200
    server.content = b"<html>moved</html>"
    refused("damaged", server.archive())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("helpers.runtime.shutil.disk_usage", lambda _: usage._replace(free=10))
    refused("No space left", server.archive())


def test_online_asks_once(server):
    download.online.cache_clear()
    assert download.online(server.url) and not download.online("http://127.0.0.1:9/")
    server.status = 503
    assert download.online(server.url)  # remembered
    download.online.cache_clear()
    assert not download.online(server.url)


def test_every_archive_can_be_verified_or_says_why_not_and_only_the_previews_come_unasked(tmp_path):
    archives = {name: kind.archive for name, kind in corpora.KINDS.items() if kind.archive}
    assert [name for name, archive in archives.items() if not archive.checksum] == ["dsd100"]
    with pytest.raises(UserError, match="DSD100.zip has neither https nor a known checksum.*get http.*yourself"):
        corpora.fetch("dsd100", tmp_path)
    assert download.UNASKED_MB == 200
    small = [name for name, archive in archives.items() if archive.megabytes <= download.UNASKED_MB]
    assert small == [corpora.PREVIEWS]
