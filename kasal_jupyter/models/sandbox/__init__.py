"""The sandbox model: what it says, made from the request alone, without any server."""
