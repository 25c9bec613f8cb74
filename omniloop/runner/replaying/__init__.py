"""A rollout run again on the answers that its log holds."""
