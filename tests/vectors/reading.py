"""Vectors of bodies: what is read of them, behind every other check, and what is not."""

from __future__ import annotations

import bz2
import lzma
import zlib

JSON = "application/json"
MAX_BYTES = 4096


def body():
    valid = [
        (JSON, b'[[1,2],{},{"callbacks":null}]'),
        (JSON, '["é","\U0001f30a",1.5,-0.0,true,null]'.encode()),
        (JSON, b'"\\ud83c\\udf0a"'),
        (JSON, b'{"__type__":"datetime","__value__":"2026-10-21T12:00:00+02:00"}'),
        (JSON, b'{"__type__":"timedelta","__value__":1500000}'),
        (JSON, b'{"__type__":"decimal","__value__":"1.10"}'),
        (JSON, b'{"__type__":"bytes","__value__":"AP8="}'),
        (JSON, b'{"__type__":"set","__value__":[1,2]}'),
        (f"{JSON}+zlib", zlib.compress(b"[1]")),
        (f"{JSON}+bzip2", bz2.compress(b"[1]")),
        (f"{JSON}+lzma", lzma.compress(b"[1]", format=lzma.FORMAT_XZ, preset=1)),
        (JSON, b" " * (MAX_BYTES - 1) + b"1"),
    ]
    large = b" " * MAX_BYTES + b"1"
    invalid = [
        ("nothing", JSON, b"", "undecodable"),
        ("not UTF-8", JSON, b'"\xff"', "undecodable"),
        ("a byte order mark", JSON, b"\xef\xbb\xbf1", "undecodable"),
        ("NaN", JSON, b"[NaN]", "undecodable"),
        ("infinity", JSON, b"-Infinity", "undecodable"),
        ("a number beyond floats", JSON, b"1e999", "undecodable"),
        ("a key twice", JSON, b'{"a":1,"a":2}', "undecodable"),
        ("half a surrogate pair", JSON, b'"\\ud83c"', "undecodable"),
        ("a second value", JSON, b"1 2", "undecodable"),
        ("nested beyond reason", JSON, b"[" * 2000 + b"]" * 2000, "undecodable"),
        (
            "a type that is not on the list",
            JSON,
            b'{"__type__":"code","__value__":"x"}',
            "undecodable",
        ),
        (
            "a tagged object with a third key",
            JSON,
            b'{"__type__":"date","__value__":"2026-01-01","x":1}',
            "undecodable",
        ),
        (
            "a date in another spelling",
            JSON,
            b'{"__type__":"date","__value__":"20260101"}',
            "undecodable",
        ),
        (
            "a set with one member twice",
            JSON,
            b'{"__type__":"set","__value__":[1,1]}',
            "undecodable",
        ),
        ("a body over the bound", JSON, large, "decompression-bomb"),
        ("zlib over the bound", f"{JSON}+zlib", zlib.compress(large), "decompression-bomb"),
        ("bzip2 over the bound", f"{JSON}+bzip2", bz2.compress(large), "decompression-bomb"),
        ("zlib that is cut off", f"{JSON}+zlib", zlib.compress(b"[1]")[:-1], "undecodable"),
        ("zlib with more behind", f"{JSON}+zlib", zlib.compress(b"[1]") + b"x", "undecodable"),
        ("no zlib", f"{JSON}+zlib", b"[1]", "undecodable"),
    ]
    return {
        "about": f"Bodies, of which at most {MAX_BYTES} bytes are decoded.",
        "max_bytes": MAX_BYTES,
        "valid": [{"codec": codec, "hex": content.hex()} for codec, content in valid],
        "invalid": [
            {"what": what, "codec": codec, "hex": content.hex(), "refusal": refusal}
            for what, codec, content, refusal in invalid
        ],
    }
