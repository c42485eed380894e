"""Small helpers that know nothing of heads: operations, randomness, configuration, command lines,
processes."""
