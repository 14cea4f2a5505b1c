"""Quantised linear layers: which, how, and what became of them; independent of the family of the model."""
