"""What the commands of `build-engines` do, once their arguments are read. All raise UnispectError."""
