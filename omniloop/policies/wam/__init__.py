"""The world-action model: a compact causal video transformer that drives (policy ``wam``)."""
