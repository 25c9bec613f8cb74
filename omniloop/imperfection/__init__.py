"""Seeded disturbances of what is sensed, told and decided; all off by default."""
