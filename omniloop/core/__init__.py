"""Time, geometry, cameras, errors, seeds, the plugin registry and the contracts.

Imports numpy and scipy only, so that everything else may depend on it.
"""
