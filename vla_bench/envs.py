"""Importing this module registers every task with Gymnasium.

Gymnasium imports it itself where an id names it, also in the processes of vector environments:
`gymnasium.make("vla_bench.envs:vla_bench/<suite>.<stem>-v0")`. `import vla_bench` alone stays light.
"""

from vla_bench.sim.registration import register_tasks

register_tasks()
