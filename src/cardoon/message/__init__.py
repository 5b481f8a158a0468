"""The wire format: bytes to values and back. No I/O."""
