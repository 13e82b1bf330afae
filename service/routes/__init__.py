"""HTTP: each route parses, calls the inspector, and answers."""
