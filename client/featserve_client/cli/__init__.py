"""The `featserve` command: a module per subcommand. Printing happens here and nowhere else."""
