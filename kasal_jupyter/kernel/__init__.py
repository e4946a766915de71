"""What runs in the notebook: client, magics, trace view."""
