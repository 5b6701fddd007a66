"""Pictures, from a file of any format, mode and size to the image that a network takes: for training and prediction alike."""
