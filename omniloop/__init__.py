"""Omniloop closes the loop between a driving policy and a simulated world."""

__version__ = "0.1.0"
