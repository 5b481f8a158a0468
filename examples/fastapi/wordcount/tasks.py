"""What the worker does: counts the parts of a text side by side, then adds up."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from cardoon import Cardoon, Task, chord

queue = Cardoon("wordcount", task_time_limit=60, task_publish_timeout=3)

PART = 20_000
"""Characters that one task counts."""


@queue.task
def count_part(text: str) -> dict[str, int]:
    """How often each word occurs."""
    return Counter(re.findall(r"\w+", text.casefold()))


@queue.task
def add_up(parts: list[dict[str, int]], most: int) -> list[dict[str, Any]]:
    """The most frequent words of all parts."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [{"word": word, "count": count} for word, count in ranked[:most]]


@queue.task(bind=True)
def count_words(self: Task[..., Any], text: str, most: int = 10) -> list[dict[str, Any]]:
    """The most frequent words of a text. A chord takes this task's place, and answers for it."""
    header = [count_part.s(part) for part in split(text)]
    raise self.replace(chord(header, add_up.s(most)))


def split(text: str) -> list[str]:
    """The text in parts that end where a word does."""
    parts, start = [], 0
    while start < len(text):
        end = start + PART
        while end < len(text) and not text[end].isspace():
            end += 1
        parts.append(text[start:end])
        start = end
    return parts
