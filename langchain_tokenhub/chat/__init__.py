"""Chat, pure: LangChain's messages to the wire's, and the wire's answers to LangChain's."""
