"""Syslog: what happens here, written to servers that collect it, and never in the way of the work."""
