"""Networks, weights and their training; imports torch and MONAI, nothing of the other packages."""
