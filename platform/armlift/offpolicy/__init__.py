"""Off-policy evaluation of logs: logs with propensities, policies, a reward model, estimates."""
