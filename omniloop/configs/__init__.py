"""Config groups (YAML), their schema, and composition."""
