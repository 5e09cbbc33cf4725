"""Extraction of any number of files into one result file. Reached through `FeatureClient`'s public methods only."""
