"""One network's training: folds, samples, augmentation, checkpoints."""
