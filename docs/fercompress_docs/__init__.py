"""Pages of the reference that are made from the code: models, tables and schemas in, Markdown out; and what the built site is checked for."""
