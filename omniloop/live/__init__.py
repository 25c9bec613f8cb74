"""A run as it goes: its events, who is told of them, and what it can be told."""
