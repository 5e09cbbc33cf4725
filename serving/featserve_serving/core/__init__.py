"""What the server does, and how many requests it takes, in terms that belong to no protocol."""
