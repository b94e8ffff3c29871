"""
The adapter to a Dapr sidecar: the only place that imports grpc and dapr.
"""
