"""The wire contract: what goes over HTTP, the WebSocket and to a run's process.

One module a resource. Pydantic models are the contract at the edges; events are
typed dictionaries, since a run writes thousands of them and nobody edits them.
"""
