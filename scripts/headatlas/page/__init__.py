"""The data of the head page: scripts that a browser loads from a disk, without a server."""
