"""The factors of the five axes: what varies, how far, and how a task is changed by it."""
