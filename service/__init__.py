"""The inspection server: the runtime in `engines` behind HTTP. Imports no torch and nothing of `build_engines`."""
