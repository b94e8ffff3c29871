"""
Measurements, both sides of each in one run through a real sidecar; see README.md.
"""
