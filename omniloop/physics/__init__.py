"""Built-in controllers, vehicles and grounds."""
