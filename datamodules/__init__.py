"""Data of light-weight-trackers, from annotated videos to samples: readers, sampling, augmentation, datamodules."""
