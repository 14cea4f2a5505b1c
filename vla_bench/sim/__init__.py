"""Scenes from BDDL, controller, predicates, rendering, and the simulation contract."""
