"""Small helpers that know nothing of heads.

Operations, randomness, configuration, command lines, processes.
"""
