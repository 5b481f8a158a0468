"""The firewall of a host: an nftables table of our own, made from the settings, and held against what is loaded.

It knows one table, `inet cardoon`, and never reads or writes the rules of others.
"""
