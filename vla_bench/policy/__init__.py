"""Policies: the protocol, cards, precision, and the families."""
