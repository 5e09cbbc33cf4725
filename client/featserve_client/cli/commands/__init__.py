"""The subcommands of `featserve`, one module each; `extract` and `embed` share `bulk`."""
