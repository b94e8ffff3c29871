"""
The protocol without I/O: pure decisions on immutable values, and generators that yield what they want done.

Nothing here knows a clock, a random source, a socket or a logger; see ``steps`` for the words in which it asks for them.
"""
