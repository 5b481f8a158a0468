"""Families of results: what a task has called, what that has called, and so on, as a walk and a graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TextIO

from cardoon.exceptions import IncompleteStream


class Relative(Protocol):
    """A result, or several."""

    @property
    def children(self) -> Sequence[Any] | None:
        """The results of what it has called; None if that is not known yet."""
        ...

    def ready(self) -> bool:
        """Whether it has ended."""
        ...


def walk(root: Relative, *, intermediate: bool) -> Iterator[tuple[Any, Any]]:
    """Each result of a family behind the one that called it, as (parent, result); the root has None.

    `IncompleteStream` at one that has not ended when it is left, unless `intermediate` ones are fine.
    """
    line: deque[tuple[Any, Any]] = deque([(None, root)])
    seen: set[str] = set()
    while line:
        parent, node = line.popleft()
        yield parent, node
        if str(node) in seen:  # the children are a task's own word, which may go in a circle
            continue
        seen.add(str(node))
        if node.ready():
            line.extend((node, child) for child in node.children or ())
        elif not intermediate:
            raise IncompleteStream(f"result {node} has not ended; wait for it, or use intermediate")


class Graph:
    """Results and who called whom."""

    def __init__(self, root: object = None, formatter: Callable[[Any], str] | None = None) -> None:
        self.root = root
        self._formatter = formatter or str
        self._adjacent: dict[Any, list[Any]] = {}

    def add_arc(self, node: Any) -> None:
        """Add a result that is not there yet."""
        self._adjacent.setdefault(node, [])

    def add_edge(self, parent: Any, child: Any) -> None:
        """Say that one called another."""
        self.add_arc(parent)
        self.add_arc(child)
        self._adjacent[parent].append(child)

    @property
    def nodes(self) -> list[Any]:
        """The results, in the order in which they were found."""
        return list(self._adjacent)

    @property
    def edges(self) -> list[tuple[Any, Any]]:
        """Pairs of a result and one that it called."""
        return [(parent, child) for parent, several in self._adjacent.items() for child in several]

    def items(self) -> Iterator[tuple[Any, list[Any]]]:
        """Each result with those that it called."""
        return iter(self._adjacent.items())

    def to_dot(self, fh: TextIO | None = None) -> str:
        """The graph in the language of Graphviz, also written to `fh` if there is one."""
        lines = ["digraph dependencies {"]
        lines += [f"  {self._name(node)};" for node in self._adjacent]
        lines += [f"  {self._name(one)} -> {self._name(other)};" for one, other in self.edges]
        text = "\n".join([*lines, "}"]) + "\n"
        if fh is not None:
            fh.write(text)
        return text

    def __contains__(self, node: object) -> bool:
        return node in self._adjacent

    def __getitem__(self, node: Any) -> list[Any]:
        return self._adjacent[node]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._adjacent)

    def __len__(self) -> int:
        return len(self._adjacent)

    def _name(self, node: Any) -> str:
        shown = self._formatter(node).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{shown}"'


def draw(root: Any, *, intermediate: bool, formatter: Callable[[Any], str] | None) -> Graph:
    """The graph of a family."""
    graph = Graph(root, formatter)
    for parent, node in walk(root, intermediate=intermediate):
        graph.add_arc(node)
        if parent is not None:
            graph.add_edge(parent, node)
    return graph
