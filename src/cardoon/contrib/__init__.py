"""What belongs to frameworks and to special needs; each module imports its framework, and nothing else does."""
