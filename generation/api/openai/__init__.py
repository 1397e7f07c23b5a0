"""Endpoints below ``/v1`` that take and send what OpenAI's image endpoints do, for clients made for those."""
