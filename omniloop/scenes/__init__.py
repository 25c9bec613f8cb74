"""Readers of scenes, the native bundle, embedded scenes, validation."""
