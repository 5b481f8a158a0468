"""The store that the Redis drivers of the Broker and ResultBackend contracts share.

One idea is one Lua script, in `lua/`; whatever must happen together happens in one of them.
"""
