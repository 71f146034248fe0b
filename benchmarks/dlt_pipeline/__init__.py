"""The sync of an account beside a pipeline of dlt and a sequential client, each a process of its own."""
