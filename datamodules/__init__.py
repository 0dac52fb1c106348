"""Videos in, training pairs out: readers, sampling, augmentation and the Lightning datamodules."""
