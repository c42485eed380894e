"""The commands around a trained model; each module also works from Python."""
