"""OpenVLA and OpenVLA-OFT, read from their official checkpoints."""
