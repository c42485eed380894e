"""Training the learnt way of changing expressions."""
