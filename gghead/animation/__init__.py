"""Moving heads and avatars.

By blendshapes or a transformer, by tracked sequences and tables, along camera paths.
"""
