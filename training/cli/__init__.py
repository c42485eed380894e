"""The commands that train, score and benchmark; imported by nobody."""
