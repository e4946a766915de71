"""Names of LLMs: which provider serves them, with which key; and the offline sandbox model."""
