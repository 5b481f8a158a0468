"""Names that Celery users import; nothing else lives here."""
