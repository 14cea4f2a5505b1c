"""Training of policies with the code and the files that inference uses; one subpackage a family."""
