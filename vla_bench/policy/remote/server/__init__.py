"""A policy of ours behind a server, for our own clients and for those of other projects."""
