"""Stands in for the library that the models are made with: only that it is there is asked."""
