"""
Exactly-once effects, sagas and safe actors for Dapr workflows.

The parts are designed (see the decision records) and not built yet.
"""

__all__: list[str] = []
