"""The recipe sse_database, which tells its clients to come back at once."""

from recipes import sse_database

sse_database.RETRY = 50
app = sse_database.app
