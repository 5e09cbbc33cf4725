"""A served model as it describes itself: signatures, versions, manifest.

Data read from the wire; nothing here asks for it.
"""
