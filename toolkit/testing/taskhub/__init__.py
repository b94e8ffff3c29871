"""
The workflow engine of a sidecar, in memory and on virtual time; ``toolkit.testing.WorkflowSidecar`` is its front.

``engine`` holds the instances and the clock, ``instance`` turns answers of the worker into history, ``faults`` says what
befalls a delivery, ``server`` speaks the protocol of the SDK, ``replay`` compares code with a recorded history.
"""
