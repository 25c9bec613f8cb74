"""Policies times backends on one decision grid, compared."""
