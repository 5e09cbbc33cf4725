"""The same extraction on an engine that is there already: `ray` and `spark`. Each needs the extra of its name."""
