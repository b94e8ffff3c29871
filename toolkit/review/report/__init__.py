"""
The review as one HTML file.
"""

from toolkit.review.report.page import write

__all__ = ["write"]
