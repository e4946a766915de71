"""Keeps crews, agents, tasks and executions: TinyDB, made durable and fast."""
