"""The client's operations, described and not done: they yield calls and receive their answers.

Both clients run them. Nothing here opens a connection, sleeps or knows asyncio.
"""
