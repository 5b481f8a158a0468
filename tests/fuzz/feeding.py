"""From bytes to odd values, and from bytes to other bytes: the same for our own engine and for atheris."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cardoon.message import cbor

NUMBERS = (
    *(0, 1, 2, 3, 22, 23, 24, 25, 31, 32, 33, 255, 256, 257, 8191, 8192, 65_535, 65_536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**64)),
    *(253_402_300_799, 253_402_300_800, 10**30),
)
FLOATS = (0.5, -1.5, 1e11, 1e308, float("inf"), float("-inf"), float("nan"))
LETTERS = (
    "a",
    "é",
    "\n",
    "\x00",
    "\u2028",
    "\U0001f600",
    "\ud800",
    "*",
    ".",
    "/",
    "'",
    "%s",
    "\x1b",
)
TOKENS = (
    *(b"\x00", b"\xff", b"\n", b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"NaN", b"1e999"),
    *(
        b"[" * 2000,
        b'{"":' * 2000,
        b"9" * 5000,
        b"\\ud800",
        b"\xc3",
        b"-1",
        b"[[",
        b"]]",
        b"==",
        b"*",
    ),
    *(b"\x58", b"\x5b", b"\x9b", b"\xbb", b"\x5f", b"\x9f", b"\x30\x82\xff\xff", b"\x30\x80"),
)


class Feed:
    """Draws values from bytes; where they end, everything is the first or the smallest."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """The next one."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def choice(self, options: Sequence):
        """One of some."""
        return options[self.byte() % len(options)]

    def take(self, most: int) -> bytes:
        """Up to so many bytes."""
        size = self.byte() if most < 256 else self.byte() << 8 | self.byte()
        found = self._data[self._at : self._at + size % (most + 1)]
        self._at += len(found)
        return found

    def rest(self) -> bytes:
        """All that is left."""
        found = self._data[self._at :]
        self._at = len(self._data)
        return found

    def text(self) -> str:
        """Some letters that make trouble."""
        if self.byte() % 4 == 0:
            return self.take(64).decode(errors="surrogateescape")
        return "".join(self.choice(LETTERS) for _ in range(self.byte() % 5)) * self.choice(
            (1, 1, 1, 99)
        )

    def value(self, words: Sequence = (), depth: int = 0):
        """Anything that JSON can say, and sometimes a word that means something here."""
        match self.byte() % (12 if depth < 3 else 8):
            case 0 | 1:
                return self.choice(NUMBERS)
            case 2:
                return self.choice(FLOATS)
            case 3:
                return self.choice((True, False, None))
            case 4:
                return self.text()
            case 5 | 6 | 7:
                return self.choice(words) if words else self.text()
            case 8 | 9:
                return [self.value(words, depth + 1) for _ in range(self.byte() % 4)]
            case _:
                return self.table(words, words, depth + 1)

    def table(self, keys: Sequence, words: Sequence = (), depth: int = 0) -> dict:
        """An object, mostly with keys that mean something here."""
        names = [k for k in keys if isinstance(k, str)] or ["a"]
        found = {}
        for _ in range(self.byte() % 6):
            key = self.text() if self.byte() % 8 == 0 else self.choice(names)
            found[key] = self.value(words, depth)
        return found


class Mutator:
    """Changes bytes in ways that parsers do not like; the same for the same seed."""

    def __init__(self, seed: int, corpus: Sequence[bytes], tokens: Sequence[bytes] = ()) -> None:
        self._random = random.Random(seed)
        self._corpus = list(corpus) or [b""]
        self._tokens = (*TOKENS, *tokens, *tokens)

    def make(self) -> bytes:
        """The next input."""
        draw = self._random
        content = draw.choice(self._corpus) if draw.random() < 0.95 else draw.randbytes(200)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 8))):
            content = draw.choice(
                (self._flip, self._cut, self._splice, self._shuffle, self._insert, self._number)
            )(content)
        return content[: 1 << 16]

    def _place(self, content: bytes) -> int:
        return self._random.randrange(len(content) + 1)

    def _flip(self, content: bytes) -> bytes:
        changed = bytearray(content or b"\x00")
        for _ in range(self._random.choice((1, 1, 1, 2, 8))):
            changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _cut(self, content: bytes) -> bytes:
        return content[: self._place(content)]

    def _splice(self, content: bytes) -> bytes:
        other = self._random.choice(self._corpus)
        return content[: self._place(content)] + other[self._place(other) :]

    def _shuffle(self, content: bytes) -> bytes:
        start, stop = sorted((self._place(content), self._place(content)))
        piece = content[start:stop]
        put = self._random.choice(
            (b"", piece * 2, piece[::-1], self._random.randbytes(len(piece) % 40))
        )
        return content[:start] + put + content[stop:]

    def _insert(self, content: bytes) -> bytes:
        at, token = self._place(content), self._random.choice(self._tokens)
        return content[:at] + token + content[at + self._random.choice((0, 0, 1, len(token))) :]

    def _number(self, content: bytes) -> bytes:
        """A length that does not fit, as a head of CBOR or in big endian."""
        at = self._place(content)
        number = abs(self._random.choice(NUMBERS)) % 2**64
        size = self._random.choice((1, 2, 4, 8))
        put = self._random.choice(
            (
                cbor.head(self._random.randrange(8), number),
                (number % 256**size).to_bytes(size, "big"),
            )
        )
        return content[:at] + put + content[at + self._random.choice((0, len(put))) :]
