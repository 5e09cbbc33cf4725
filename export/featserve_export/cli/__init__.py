"""The command `featserve-export`: its options, its tables, and what becomes of its errors."""

from .command import main

__all__ = ["main"]
