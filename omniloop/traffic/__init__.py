"""Built-in traffic."""
