"""The pages for people: rendered here, enlivened by a little script, usable without."""
