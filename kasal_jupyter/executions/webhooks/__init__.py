"""Webhooks: a run's events posted to the crew's receiver, signed."""
