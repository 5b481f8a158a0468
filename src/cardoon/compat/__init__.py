"""Stands in for other projects, for code that cannot be changed yet."""
