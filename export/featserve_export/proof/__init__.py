"""The proof of an export before it is kept: the network's own answers, and the input of its first layer."""
