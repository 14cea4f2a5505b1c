"""Training of OpenVLA's architecture with the code and the files that inference uses."""
