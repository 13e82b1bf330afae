"""The study: all methods and precisions on one data folder, and what follows from the figures."""
