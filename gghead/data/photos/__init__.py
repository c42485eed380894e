"""Photos to training data: landmarks, cameras, crops, masks (``dataset_tool.py photos``)."""
