"""Rollouts as training data: frames, tables, WebDataset shards."""
