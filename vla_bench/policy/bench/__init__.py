"""How fast a policy is on this machine: phases, memory, the plain road to the same actions, the roofline."""
