"""Scores of rollouts: one plugin per idea, and the samples and contacts they share."""
