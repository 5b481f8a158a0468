"""The PostgreSQL store that its broker and result backend share.

location     what a URL means: servers, TLS, the schema
values       arguments and rows, as PostgreSQL's binary format has them
functions    what can be called, with the types of arguments and columns
connection   one connection: calls in one round trip, each within a deadline
failures     what PostgreSQL says, as an OperationalError
database     connections, retries and forks; the only module that begins and commits
wakeups      hints by LISTEN and NOTIFY, so that nobody has to poll fast
schema       make the tables and functions, or bring them up to date
access       which role may call what
messages, subscribers, settling, results, replay     the calls of one subject each

What happens inside of a call is written in SQL, in `sql/`.
"""
