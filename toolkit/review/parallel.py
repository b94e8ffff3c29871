"""
A review with one worker per core where the input is worth it.
"""

from __future__ import annotations

from toolkit.review.run import review

__all__ = ["review"]
