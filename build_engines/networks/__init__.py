"""Networks, one readable file each, with torchvision's weight names, and where their weights come from."""
