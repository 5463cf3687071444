"""The wrong versions: each module makes one mistake, and a test proves it wrong."""
