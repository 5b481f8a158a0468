"""Logs that nobody can change unseen: a Merkle tree over lines, and checkpoints signed under keys of one epoch.

`tree` hashes (RFC 6962), `notes` are the signed checkpoints (C2SP `tlog-checkpoint`), `epochs` keeps the
key of the present and forgets that of the past, `trail` writes the file, `verifying` judges it.
"""
