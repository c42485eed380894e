"""Training of priors over latents: ``scripts/train_prior.py``."""
