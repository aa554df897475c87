"""Networks, weights and their training; imports torch, for training MONAI too, nothing of the other packages."""
