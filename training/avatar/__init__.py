"""Training and judging avatars of one person (HeadGaS)."""
