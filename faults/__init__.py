"""The fault matrix: real workers, clients and brokers, real signals and cut links, and what became of every task.

`python -m faults` breaks things in every way that it knows, and holds what it counted against goals.
"""
