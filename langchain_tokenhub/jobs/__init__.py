"""Paid jobs: submit, poll, collect, record. LangChain's tools are in `tools`."""
