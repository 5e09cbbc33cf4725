"""Extraction of any number of files into one result file; it asks through `FeatureClient`'s public methods alone."""
