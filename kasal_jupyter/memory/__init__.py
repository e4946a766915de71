"""What crews remember and know, made searchable: words, vectors, one file a crew, and the search in it.

No CrewAI here, and no store: the server writes the files, a run's process searches them.
"""
