"""Comparing runs: pairs of rollouts, differences with intervals, divergence, rankings."""
