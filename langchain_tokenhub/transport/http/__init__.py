"""HTTP/1.1 connections: a pool, direct and proxied connections, sockets, callers' clients."""
