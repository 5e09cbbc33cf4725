"""What an export is held against before it is kept: the network's own answers, and what its first layer receives."""
