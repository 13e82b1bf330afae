"""Folders of part images, real and synthetic."""
