"""The tools an agent can use, without CrewAI."""
