"""The provider's name in messages and traces."""

PROVIDER = "tokenhub"
"""`ls_provider` and `model_provider`: LangChain's middleware trusts usage where they are equal."""
