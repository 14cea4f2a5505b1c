"""Policies: the protocol, cards, precision, and the families."""

import logging

# On import, also by transformers, these warn of kernels for other machines; bitsandbytes also says at every
# call what a precision's report says once.
for _name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
