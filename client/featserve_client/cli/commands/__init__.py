"""The subcommands of `featserve`, one module each; `bulk` is what `extract` and `embed` share."""
