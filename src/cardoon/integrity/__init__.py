"""File integrity: a signed list of what files are, and what has become of them since."""
