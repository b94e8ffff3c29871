"""
Dapr's protocol for pluggable state stores; Copyright The Dapr Authors, Apache License 2.0.
"""
