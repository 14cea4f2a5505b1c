"""Diffusion Policy with a convolutional network, read from its official checkpoints and from LeRobot's."""
