"""What the client does, without doing it: operations that yield calls and receive their answers.

Both clients run them. Nothing here opens a connection, sleeps or knows asyncio.
"""
