"""Compressed bodies: packed by the sender, unpacked behind the gate within a bound.

Unpacking never takes more memory than a small multiple of the bound it is given: the unpackers are
stopped at the bound, and LZMA's dictionary, whose size a body claims, is bounded as well.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any

from cardoon.contents import BZIP2, LZMA, ZLIB
from cardoon.exceptions import Refusal, RefusedError

_LZMA_PRESET = 1
"""A dictionary of 1 MiB: larger ones take longer to set up than most bodies take to pack."""
_LZMA_MEMORY = 16 << 20
"""Bytes that unpacking LZMA may take: enough for what `xz` writes unasked."""


def compress(compression: str, body: bytes) -> bytes:
    """Pack a body."""
    match compression:
        case "zlib":
            return zlib.compress(body)
        case "bzip2":
            return bz2.compress(body)
        case "lzma":
            return lzma.compress(body, format=lzma.FORMAT_XZ, preset=_LZMA_PRESET)
        case _:
            raise AssertionError(compression)


def decompress(compression: str, body: bytes, *, max_bytes: int) -> bytes:
    """Unpack exactly one stream of at most `max_bytes`.

    `RefusedError` with BOMB for a larger one, and with UNDECODABLE for anything else that is wrong.
    """
    try:
        unpacker = _make_unpacker(compression)
        content: bytes = unpacker.decompress(body, max_bytes + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise RefusedError(Refusal.UNDECODABLE, f"not {compression}") from error
    if len(content) > max_bytes:
        raise RefusedError(Refusal.BOMB, f"more than {max_bytes} bytes when decompressed")
    if not unpacker.eof or unpacker.unused_data:
        detail = f"{compression}: cut off, or more behind the end"
        raise RefusedError(Refusal.UNDECODABLE, detail)
    return content


def _make_unpacker(compression: str) -> Any:
    if compression == ZLIB:
        return zlib.decompressobj()
    if compression == BZIP2:
        return bz2.BZ2Decompressor()
    assert compression == LZMA
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
