"""Scores of pictures for `omniloop backends`: plugins of the kind ``image_metric``."""
