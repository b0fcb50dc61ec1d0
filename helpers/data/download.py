"""Downloads of data sets: fetched and verified by pooch; a folder appears only once all of it is unpacked."""

import functools
import http.client
import importlib.util
import os
import shutil
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pooch

from helpers.runtime import UserError, check_space

UNASKED_MB = 200  # nothing larger is downloaded unless `fetch` asks for it by name


@dataclass(frozen=True)
class Archive:
    """A ZIP file on the network: its address, size in MB, and checksum ('md5:...', 'sha256:...'; None if unknown)."""

    url: str
    megabytes: int
    checksum: str | None


@functools.cache
def online(url):
    """True if `url` answers within three seconds; asked once per process."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=3).close()
        return True
    except (OSError, http.client.HTTPException):
        return False


def fetch_archive(archive, target):
    """Download an Archive, verify it and unpack it as the folder `target`.

    A folder of the target's name inside the archive becomes the target. Raises UserError without network or disk space,
    for a wrong checksum, and for an address that has neither https nor a checksum.
    """
    target = Path(target)
    packed, part = target.parent / Path(archive.url).name, target.with_name(f"{target.name}.{os.getpid()}.part")
    by_hand = f"get {archive.url} ({archive.megabytes:,} MB) yourself and unpack it as {target}"
    if not archive.checksum and not archive.url.startswith("https:"):
        raise UserError(f"{packed.name} has neither https nor a known checksum and cannot be verified: {by_hand}")
    pooch.get_logger().setLevel("WARNING")
    has_tqdm = importlib.util.find_spec("tqdm") is not None
    downloader = pooch.HTTPDownloader(progressbar=has_tqdm, chunk_size=1 << 20, timeout=30)
    try:
        part.mkdir(parents=True)
        check_space(packed, archive.megabytes * 1_000_000)
        pooch.retrieve(archive.url, archive.checksum, packed.name, target.parent, downloader=downloader)
        with zipfile.ZipFile(packed) as content:  # extracting keeps every entry below `part` and makes no links
            entries = [entry for entry in content.infolist() if not entry.filename.startswith("__MACOSX")]
            check_space(part, sum(entry.file_size for entry in entries))
            content.extractall(part, entries)
        inner = part / target.name
        os.replace(inner if inner.is_dir() else part, target)
        packed.unlink()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        if not isinstance(error, OSError):
            packed.unlink(missing_ok=True)
            reason = "it is damaged or its checksum is wrong"
        raise UserError(f"{packed.name} could not be fetched ({reason}): try again, or {by_hand}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
