"""Built-in policies: one idea, one file."""
