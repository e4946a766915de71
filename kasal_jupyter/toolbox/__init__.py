"""What an owner's crews may use: custom tools, MCP servers, providers, and their secrets."""
