"""What every training run does.

The loop over steps, the run folder, statistics, health, precision.
"""
