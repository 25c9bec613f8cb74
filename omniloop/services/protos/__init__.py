"""The public v0 wire interface, compiled from the definitions beside this file."""
