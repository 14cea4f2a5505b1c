"""What the factors of each axis do to a task."""
