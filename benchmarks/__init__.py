"""Benchmarks: Cardoon against Celery and huey, on one disk and in one run.

`python -m benchmarks`, from the root of the repository; docs/performance.md explains what is measured.
"""
