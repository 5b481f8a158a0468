"""Rewrites a Celery project for Cardoon, and says what people must decide: `cardoon upgrade settings`.

    project     which files, and what is true of all of them
    source      one file, and changes to it that keep its layout
    imports, settings, usage    what is changed, and what is only reported

Files are read and parsed, never imported. A change replaces names and nothing else, so that comments
and layout stay as they are; that takes no more than `ast`.
"""
