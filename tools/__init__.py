"""
Checks of this repository that are run by `make check`; no part of the distribution.
"""
