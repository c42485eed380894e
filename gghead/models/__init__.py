"""Models: networks and a template joined into something that yields Gaussians."""
