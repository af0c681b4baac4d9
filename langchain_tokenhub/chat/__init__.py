"""Conversion of LangChain's messages to requests, and of answers to LangChain's messages. Pure."""
