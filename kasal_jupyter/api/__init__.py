"""The Kasal API on Tornado: REST and WebSocket."""
