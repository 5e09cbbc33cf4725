"""The same extraction on an engine that is there already: `ray`, `spark` and `beam`, each with the extra of its name."""
