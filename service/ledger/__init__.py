"""What was inspected, in a database: every inspection is committed before its answer leaves."""
