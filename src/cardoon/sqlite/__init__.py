"""The embedded store that the SQLite broker and result backend share.

location     which file a URL means, and whether it may lie there
schema       open the file, create or migrate its tables
database     connections, transactions, durability; the only module that begins and commits
statements   SQL text by name, and batches as single parameters
failures     what SQLite says, as an OperationalError
messages, dormant, settling, replay, results, kept, upkeep    the statements of one subject each
wakeups      hints between processes, so that nobody has to poll fast
presence     the locks by which the living are told from the dead
forks        what must be let go of before a process forks
"""
