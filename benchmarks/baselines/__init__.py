"""Listings that medloom is measured against, pinned so that the comparison can be repeated."""
