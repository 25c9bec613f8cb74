"""What a rollout leaves: its log, digest and result, and the folder of a run."""
