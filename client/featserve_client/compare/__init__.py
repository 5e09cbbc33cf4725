"""May vectors of two models, versions or servers be mixed: their vectors of the same photos, compared."""
