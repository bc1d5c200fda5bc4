"""Checksums of zip archives, which torch.save writes and torch.load does not look at."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from pathlib import Path

_CHUNK = 2**20
# What zipfile makes of an archive that is not one: it takes most of what it reads at its word.
_NOT_A_ZIP = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OverflowError),
    *(struct.error, zlib.error),
)


def entries_of(path: Path) -> list[zipfile.ZipInfo] | None:
    """What an archive's table of contents lists; None if it is damaged, or there is none.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except _NOT_A_ZIP:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None  # a place before the file's beginning


def damaged_entry(path: Path) -> str | None:
    """The first entry of an archive of stored entries whose bytes are not those of its checksum, or None.

    An archive in which all checksums are 0 was written without them (torch.serialization.set_crc32_options), and only
    its table of contents is checked.

    Raises:
        OSError: the file cannot be read.
    """
    entries = entries_of(path)
    if not entries:
        return "its table of contents"
    with zipfile.ZipFile(path) as archive:
        unchecked = not any(entry.CRC for entry in entries)
        for entry in entries:
            if not _is_stored(entry) or not (unchecked or _is_whole(archive, entry)):
                return entry.filename
    return None


def _is_stored(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is as it was, so that reading it takes no more than the file has."""
    return entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size


def _is_whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as file:
            while file.read(_CHUNK):
                pass
    except (*_NOT_A_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        return False
    return True
