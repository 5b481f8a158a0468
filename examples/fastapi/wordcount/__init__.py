"""A service that counts the words of texts in the background."""
