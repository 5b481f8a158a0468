"""A small search engine: words and links of texts, and how to find them again. No tasks, no I/O.

An index is plain JSON, so that a part of it can lie in a file between two tasks.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from keyword import kwlist
from typing import NamedTuple, TypedDict

SUFFIXES = frozenset({".py", ".rst", ".txt", ".md", ".html", ".htm"})
"""Of the files that are worth reading."""

_WORD = re.compile(r"[^\W\d_]{3,40}")
_COMMON = frozenset(kwlist) | frozenset(
    [
        "the",
        "and",
        "for",
        "are",
        "was",
        "has",
        "have",
        "had",
        "that",
        "this",
        "with",
        "from",
        "into",
        "not",
        "but",
        "can",
        "all",
        "any",
        "may",
        "its",
        "you",
        "will",
        "would",
        "should",
        "when",
        "then",
        "than",
        "which",
        "there",
        "their",
        "also",
        "only",
        "self",
        "cls",
        "none",
        "true",
        "false",
        "str",
        "int",
        "len",
        "get",
        "set",
        "args",
    ]
)
"""Words that say nothing of what a text is about."""

_HTML_LINK = re.compile(r"""\bhref\s*=\s*["']([^"'#?\s]{1,200})""", re.IGNORECASE)
_MARKDOWN_LINK = re.compile(r"\]\(<?([^)\s#?>]{1,200})")
_REST_LINK = re.compile(r":(?:mod|class|func|meth|doc|ref|pep|rfc):`[~!]?([^`<>\n]{1,200})`")
_URL = re.compile(r"https?://([\w.-]{1,200})")


class Document(TypedDict):
    """One text in an index."""

    path: str
    """Relative to the folder that was indexed."""
    words: int


class Index(TypedDict):
    """What is known of some texts. Their numbers are text, because they are keys in JSON."""

    documents: dict[str, Document]
    postings: dict[str, dict[str, int]]
    """How often each word stands in each document."""
    links: dict[str, int]
    """How many documents import or link to each name."""


class Hit(NamedTuple):
    """A document that answers a query."""

    number: str
    score: float


def index_text(number: str, path: str, text: str) -> Index:
    """The index of one text."""
    words = Counter(_words(text))
    return Index(
        documents={number: Document(path=path, words=words.total())},
        postings={word: {number: count} for word, count in words.items()},
        links=dict.fromkeys(sorted(find_links(path, text)), 1),
    )


def merge_indexes(parts: Iterable[Index]) -> Index:
    """One index of what several say; no document may be in two of them."""
    merged = Index(documents={}, postings={}, links={})
    links: Counter[str] = Counter()
    for part in parts:
        merged["documents"] |= part["documents"]
        links.update(part["links"])
        for word, found in part["postings"].items():
            merged["postings"].setdefault(word, {}).update(found)
    merged["links"] = dict(links)
    return merged


def find_links(path: str, text: str) -> set[str]:
    """The modules that Python sources import, or what other texts link to."""
    if path.endswith(".py"):
        return _imports(text)
    if path.endswith((".html", ".htm")):
        return set(_HTML_LINK.findall(text))
    if path.endswith(".md"):
        return set(_MARKDOWN_LINK.findall(text)) | set(_URL.findall(text))
    return set(_REST_LINK.findall(text)) | set(_URL.findall(text))


def rank_links(index: Index, limit: int) -> list[tuple[str, int]]:
    """The names that most documents link to, and how many do."""
    return _top(index["links"].items(), limit)


def rank_words(index: Index, limit: int) -> list[tuple[str, int]]:
    """The most frequent words, without those that are frequent everywhere."""
    totals = ((word, sum(found.values())) for word, found in index["postings"].items())
    return _top(((word, count) for word, count in totals if word not in _COMMON), limit)


def search_index(index: Index, query: str, limit: int) -> list[Hit]:
    """The documents that fit a query best, by Okapi BM25 with its usual k1 = 1.2 and b = 0.75."""
    documents = index["documents"]
    average = sum(document["words"] for document in documents.values()) / max(1, len(documents))
    scores: defaultdict[str, float] = defaultdict(float)
    for word in sorted(set(_words(query))):
        found = index["postings"].get(word, {})
        rarity = math.log(1 + (len(documents) - len(found) + 0.5) / (len(found) + 0.5))
        for number, count in found.items():
            length = documents[number]["words"] / average
            scores[number] += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length))
    best = sorted(scores.items(), key=lambda item: (-item[1], documents[item[0]]["path"]))
    return [Hit(number, round(score, 3)) for number, score in best[:limit]]


def find_excerpt(text: str, query: str) -> tuple[int, str]:
    """The first line with the most words of a query, and its number from 1."""
    wanted = set(_words(query))
    best, excerpt = 0, (1, "")
    for number, line in enumerate(text.splitlines(), start=1):
        found = len(wanted.intersection(_words(line)))
        if found > best:
            best, excerpt = found, (number, line.strip())
    return excerpt


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _imports(text: str) -> set[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in somebody else's code
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.update(alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.partition(".")[0])
            case _:
                pass
    return found


def _top(counts: Iterable[tuple[str, int]], limit: int) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda item: (-item[1], item[0]))[:limit]
