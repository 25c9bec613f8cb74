"""Making driving data by rollouts and training policies from it."""
