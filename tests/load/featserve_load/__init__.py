"""Measures image feature servers: load, capacity, tuning, comparisons."""
