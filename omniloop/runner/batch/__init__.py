"""Many rollouts at once: which goes where and when, in this process, others, or elsewhere."""
