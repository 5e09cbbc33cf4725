"""The use of features once they are here: neighbors, pictures, comparison with an export's golden activations.

Packages of the extras are imported where they are used.
"""
