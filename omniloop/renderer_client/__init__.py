"""Sensor renderers in this process."""
