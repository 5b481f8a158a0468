"""The escapes: task code that tries to get out of its sandbox, against a real kernel and a real worker.

`python -m escapes` tries everything that it knows, first unconfined, and says of each attempt what came of it.
"""
