"""Demonstrations, training and offline accuracy."""
