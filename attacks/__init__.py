"""The attacks: somebody who reads and writes broker and result store, against a real worker and a real client.

`python -m attacks` tries everything that it knows, and says of each attempt what became of it.
"""
