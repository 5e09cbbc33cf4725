"""The same extraction on an engine that is there already: `ray`, `spark`, `beam`. Each needs the extra of its name."""
