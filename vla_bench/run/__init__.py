"""From a study to records: plan, pacing, rollout, executors."""
