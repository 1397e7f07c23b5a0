"""The description of the API: what each call takes and answers, in OpenAPI 3.1."""
