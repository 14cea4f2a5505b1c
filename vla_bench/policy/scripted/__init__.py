"""Policies that follow rules: baselines and the privileged expert."""
