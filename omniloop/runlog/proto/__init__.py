"""Messages of the log; the modules here are generated from the ``.proto`` files."""
