"""From whatever a caller calls an image to what a signature takes; nothing here knows of requests."""
