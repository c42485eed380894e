"""Training the learned way of changing expressions."""
