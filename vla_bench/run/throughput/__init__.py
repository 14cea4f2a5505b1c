"""How fast a run can be here: what simulators ask for, what a policy answers, what is lost between them."""
