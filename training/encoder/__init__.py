"""Training of the multi-view encoder (HeadsUp) in front of the generator's decoder."""
