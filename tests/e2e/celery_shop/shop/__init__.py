"""A small shop, written for Celery: what `cardoon upgrade settings` and the import shim are tried on."""
