"""What a run shows while it runs, and what it says at the end."""

from vla_bench.run.display.running import Ended, run_with_progress

__all__ = ["Ended", "run_with_progress"]
