"""The `featserve` command: options, progress, and a module per subcommand in `commands`. Nothing else prints."""
