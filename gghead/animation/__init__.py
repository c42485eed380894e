"""Driving avatars: by tracked sequences, tables of weights, along camera paths."""
