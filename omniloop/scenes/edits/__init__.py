"""Scene editing as data: edit files, recipes, and pure functions that apply them."""
