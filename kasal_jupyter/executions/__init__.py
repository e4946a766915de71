"""The life of an execution in the server: queue, journal, live status, recovery."""
