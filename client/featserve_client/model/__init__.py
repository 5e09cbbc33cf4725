"""What a served model says of itself: signatures, versions, manifest.

Data read from the wire; nothing here asks for it.
"""
