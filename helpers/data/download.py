"""Downloads that survive a broken line, and ZIP archives that are looked through before anything is unpacked.

A file arrives as NAME.part and gets its name only once its size and checksum are right, so that no half of one is ever
taken for the whole. What arrived stays in NAME.part when the line breaks, and the next attempt asks for the rest.
"""

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import stat
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import requests

from helpers.runtime import UserError

PIECE = 1 << 14  # bytes read at a time: so many are lost, at most, where a line breaks
ATTEMPTS = 5  # attempts in a row that bring nothing before we give up
ENTRIES = 100_000  # the most files an archive may hold
INFLATION = 50  # how many times larger than the archive its content may be: audio shrinks by a half, seldom to a tenth


@dataclass(frozen=True)
class Archive:
    """A ZIP file on the network.

    urls: places that have it, in the order they are tried. size: its bytes, None if unknown. checksum: 'md5:...' or
    'sha256:...', None if nobody published one. about: its size in words.
    """

    file: str
    urls: tuple
    about: str
    size: int | None = None
    checksum: str | None = None


@functools.cache
def online(urls):
    """True if one of `urls` (a tuple) answers within three seconds; asked once per process."""

    def answers(url):
        try:
            return requests.head(url, timeout=3, allow_redirects=True).ok
        except requests.RequestException:
            return False

    return any(answers(url) for url in urls)


# ---- downloading -------------------------------------------------------------------------------------------------


def download(archive, folder, pause=2.0):
    """Download an Archive into `folder`, going on where an earlier attempt broke off; return the path of the file.

    After a break it waits `pause` seconds, then twice as long, and so on, and gives up after ATTEMPTS attempts in a row
    that brought nothing. Raises UserError without network, disk space or the right to write, and where what arrived is
    not the published file, which is then removed.
    """
    target = Path(folder) / archive.file
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and _is_right(target, archive):
            return target
        for again in (True, False):  # a part of something else spoils the first try, not the one from the beginning
            resumed = part.exists()
            _fetch(archive, part, pause)
            if _is_right(part, archive):
                os.replace(part, target)
                return target
            part.unlink()
            if not (resumed and again):
                break
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"no space left for {target} ({archive.about}): free some, or choose another folder with --data"
            ) from error
        raise UserError(f"{target} cannot be written ({error}): choose another folder with --data") from error
    raise UserError(
        f"{archive.file} from {archive.urls[0]} is not the file it should be (wrong size or checksum) and was removed: "
        f"try again, or copy the file to {target}"
    )


def _is_right(path, archive):
    """True if a file has the archive's size and checksum, as far as these are known, and is a ZIP file."""
    if archive.size and path.stat().st_size != archive.size:
        return False
    if archive.checksum is None:
        return zipfile.is_zipfile(path)
    kind, expected = archive.checksum.split(":")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == expected


def _fetch(archive, part, pause):
    """Bring all bytes of an archive into the file `part`, in as many pieces as it takes."""
    failures, reasons = 0, {}
    most = part.stat().st_size if part.exists() else 0
    while failures < ATTEMPTS:
        for url in archive.urls:
            try:
                if _fetch_rest(url, part, archive):
                    return
                reasons[url] = "the line broke"
            except requests.RequestException as error:
                reasons[url] = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
            if part.exists() and part.stat().st_size > most:
                failures, most = -1, part.stat().st_size
                break
        failures += 1
        if failures < ATTEMPTS:
            time.sleep(pause * 2**failures)
    reason = "; ".join(f"{url}: {text}" for url, text in reasons.items())
    raise UserError(
        f"{archive.file} could not be downloaded ({reason}): try again with a network, where it goes on from where it "
        f"stopped, or copy the file to {part.with_suffix('')}"
    )


def _fetch_rest(url, part, archive):
    """Append to `part` what is missing of the file at `url`; return True if it is then complete.

    Servers that do not know how to send a part of a file send all of it: then it is begun again.
    """
    have = part.stat().st_size if part.exists() else 0
    asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=asked, stream=True, timeout=30) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return True  # all of it was there already
            part.unlink()  # longer than the file: it was a part of another one
            return False
        answer.raise_for_status()
        resumes = answer.status_code == requests.codes.partial_content
        if resumes and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.HTTPError("it sent another part than the one asked for")
        have = have if resumes else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else archive.size
        check_space(part, (total or 0) - have)
        with open(part, "ab" if resumes else "wb") as file, contextlib.suppress(requests.RequestException):
            tenth = have * 10 // total if total else 0
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                have += len(piece)
                if total and have * 10 // total > tenth:
                    tenth = have * 10 // total
                    print(f"{archive.file}: {10 * tenth} % of {total / 1e6:,.0f} MB", flush=True)
    return have == total if total else have > 0


def check_space(path, size):
    """Raise OSError (no space left) unless `size` more bytes fit on the disk of `path`."""
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


# ---- unpacking ---------------------------------------------------------------------------------------------------


def unpack(path, target, limit=60_000_000_000):
    """Unpack the ZIP file `path` to the folder `target`, which must not exist yet and appears only when it is whole.

    Where all entries lie in one folder of the target's name, that folder becomes the target. Raises UserError, before
    anything is written, if an entry has an absolute path or one that leads out of the folder, is a link or a device,
    is encrypted, or if the content is larger than `limit` bytes or suspiciously much larger than the archive; and if
    the archive is damaged or the disk is full, with nothing left behind.
    """
    path, target = Path(path), Path(target)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = check_entries(archive, path, limit)
            part.mkdir(parents=True)
            check_space(part, sum(entry.file_size for entry in entries))
            for entry in entries:
                archive.extract(entry, part)  # compares the checksum of each
        wrapped = part / target.name
        whole = wrapped if wrapped.is_dir() and len(list(part.iterdir())) == 1 else part
        os.replace(whole, target)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise UserError(f"{path} is a damaged archive ({error}): delete it and download it again") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be unpacked to {target} ({error}): free disk space, move away what is there, or choose "
            "another folder with --data"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_entries(archive, path, limit):
    """Return the files of an open ZIP archive that are to be unpacked; refuse it as unpack() says."""
    files = (entry for entry in archive.infolist() if not entry.is_dir())
    entries = [entry for entry in files if not entry.filename.startswith("__MACOSX")]
    for entry in archive.infolist():
        problem = _problem(entry)
        if problem:
            raise UserError(f"{path} is refused, {problem} ('{entry.filename}'): get it from a source you trust")
    size = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    names = {PurePosixPath(entry.filename) for entry in entries}
    absurd = size > min(limit, INFLATION * max(packed, 1_000_000)) or packed > path.stat().st_size
    if absurd or len(entries) > ENTRIES:
        raise UserError(
            f"{path} is refused, it holds {len(entries):,} files of together {size / 1e6:,.0f} MB in "
            f"{path.stat().st_size / 1e6:,.1f} MB: get it from a source you trust"
        )
    if len(names) < len(entries):
        raise UserError(f"{path} is refused, it holds two files of one name: get it from a source you trust")
    return entries


def _problem(entry):
    """Return what is wrong with a ZIP entry, None if nothing is."""
    name = entry.orig_filename  # as it stands in the archive: zipfile mends some of the names that we refuse
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith(("/", "\\")) or PureWindowsPath(name).drive:
        return "an entry has an absolute path"
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        return "an entry leads out of the folder"
    if "\\" in name or "\0" in name or not name:
        return "an entry has a name that systems read differently"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "an entry is a link or a device"
    if entry.flag_bits & 1:
        return "an entry is encrypted"
    return None
