"""Benchmarks: Cardoon beside the best peers of each broker, on one machine and in one run.

`python -m benchmarks`, from the root of the repository; docs/performance.md explains what is measured.
"""
