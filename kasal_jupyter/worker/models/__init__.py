"""The models of a run: CrewAI's LLMs, a module a provider, and what their answers say."""
