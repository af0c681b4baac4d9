"""HTTP/1.1 connections of our own: pool, connections, sockets and proxies."""
