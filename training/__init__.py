"""Training: loops, losses, regularisers, augmentation, metrics, schedules, logging."""
