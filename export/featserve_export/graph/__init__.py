"""A network as one TensorFlow graph: traced, optimised, its normalisations folded, its weights beside it."""
