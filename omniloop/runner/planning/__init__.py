"""What a batch of rollouts takes, before it is run."""
