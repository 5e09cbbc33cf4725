"""Calls, and their record in log, metrics and trace. Nothing here knows models or protocols."""
