"""Policies behind a server: as its client, and as the server of a policy of ours."""
