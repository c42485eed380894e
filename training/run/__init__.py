"""What every training run does: the loop over steps, the run folder, statistics, health,
precision."""
