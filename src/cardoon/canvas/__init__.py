"""Canvas: calls to make later, alone, one after the other, side by side, and together.

    chain(a.s(1), b.s())            b gets a's result
    group(a.s(1), a.s(2))           side by side
    chord([a.s(1), a.s(2)], b.s())  b gets the list of results
    a.s(1) | group(b.s(), c.s()) | d.s()

A canvas is sent whole, every part signed by the sender; see docs/adr/0008-workflows.md.
"""

from cardoon.canvas.compounds import chain, chord, group, maybe_signature, signature
from cardoon.canvas.mapped import chunks, xmap, xstarmap
from cardoon.canvas.signatures import Signature
from cardoon.canvas.stamping import StampingVisitor

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "xmap",
    "xstarmap",
]
