"""The event runtime: queue, world, fetch strategies, one rollout, many rollouts.

Imports no plugin: services come in as the contracts of `omniloop.core.contracts`.
"""
