"""From annotated videos to training samples: readers, sampling, augmentation and the Lightning datamodules."""
