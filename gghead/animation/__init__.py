"""Moving heads and avatars: by blendshapes or a transformer, by tracked sequences and tables, along
camera paths."""
