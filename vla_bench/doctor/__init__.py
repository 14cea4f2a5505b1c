"""Checks: of this machine (`machine`), and of the conventions that a policy's card declares."""
