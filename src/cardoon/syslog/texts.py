"""Text from anywhere, made fit for one line of a log: nothing in it ends a message or begins one."""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\uffff]"
)
"""Control characters, ends of lines, what turns the direction of text, marks of byte order, lone surrogates."""
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_QUOTED = re.compile(r'(["\\\]])')
CUT = "...[cut]"
"""Stands at the end of what was too long."""


def escape(text: str) -> str:
    r"""The text with what may not stand in a line spelled out, such as `\x0a` and `\u202e`."""
    return _UNSAFE.sub(_spell, text)


def cut(text: str, most: int) -> str:
    """The text in at most so many bytes of UTF-8, cut between characters, with a mark if it was cut."""
    if len(text) * 4 <= most:
        return text
    octets = text.encode()
    if len(octets) <= most:
        return text
    return octets[: max(0, most - len(CUT))].decode(errors="ignore") + CUT


def quote(text: str) -> str:
    r"""The text as the value of a parameter, without its quotes: `\"`, `\\` and `\]` (RFC 5424, 6.3.3)."""
    return _QUOTED.sub(r"\\\1", text)


def as_word(text: str, most: int) -> str:
    """The text as a field of a header: printable ASCII without spaces, or `-` (RFC 5424, 6.2)."""
    return _NOT_PRINTABLE.sub("_", text)[:most] or "-"


def as_name(text: str) -> str:
    """The text as the name of a parameter (RFC 5424, 6.3.3)."""
    return _NOT_IN_NAME.sub("_", text)[:32] or "_"


def _spell(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
